/*
 * fatcat IMAGE PARTITION NAME: writes a file of the root folder of a FAT16 or FAT32 partition to standard output.
 *
 * What knows FAT counts in sectors, and never learns that they come from a compressed qcow2, a VMDK in pieces or a chain of images.
 *
 *   gcc -I include examples/fatcat.c target/release/libtransload_c.a -lpthread -ldl -lm -o fatcat
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transload.h"

static void die(const char *what) {
    fprintf(stderr, "fatcat: %s%s%s\n", what, *blk_error() ? ": " : "", blk_error());
    exit(1);
}

static uint32_t le16(const uint8_t *at) { return at[0] | (uint32_t)at[1] << 8; }
static uint32_t le32(const uint8_t *at) { return le16(at) | le16(at + 2) << 16; }

/* A FAT volume: where its parts begin, in sectors of the disk. */
struct volume {
    struct blk_disk *disk;
    uint64_t fat, root, data;
    uint32_t per_cluster, root_sectors, root_cluster, clusters;
    int is_fat32;
};

static void read_sectors(const struct volume *volume, void *buffer, uint64_t first, uint32_t count) {
    if (blk_read_sectors(volume->disk, buffer, first, count) < 0)
        die("reading");
}

static void open_volume(struct volume *volume, int partition) {
    uint8_t sector[BLK_SECTOR_SIZE];
    read_sectors(volume, sector, 0, 1);
    if (le16(sector + 510) != 0xaa55)
        die("no partition table");
    uint64_t start = le32(sector + 446 + 16 * (partition - 1) + 8);
    if (start == 0)
        die("no such partition");
    read_sectors(volume, sector, start, 1);
    uint32_t fats = sector[16], entries = le16(sector + 17), fat_size = le16(sector + 22);
    uint64_t total = le16(sector + 19) ? le16(sector + 19) : le32(sector + 32);
    volume->is_fat32 = fat_size == 0;
    if (volume->is_fat32)
        fat_size = le32(sector + 36);
    if (le16(sector + 11) != BLK_SECTOR_SIZE || sector[13] == 0 || fats == 0 || fat_size == 0)
        die("no FAT with sectors of 512 bytes");
    volume->per_cluster = sector[13];
    volume->root_sectors = (entries * 32 + BLK_SECTOR_SIZE - 1) / BLK_SECTOR_SIZE;
    volume->fat = start + le16(sector + 14);
    volume->root = volume->fat + (uint64_t)fats * fat_size;
    volume->data = volume->root + volume->root_sectors;
    volume->root_cluster = le32(sector + 44);
    if (start + total < volume->data)
        die("a volume without clusters");
    volume->clusters = (uint32_t)((start + total - volume->data) / volume->per_cluster);
}

/* The cluster behind `cluster`; 0 at the end of the file. */
static uint32_t next_cluster(const struct volume *volume, uint32_t cluster) {
    uint8_t sector[BLK_SECTOR_SIZE];
    uint32_t width = volume->is_fat32 ? 4 : 2, per_sector = BLK_SECTOR_SIZE / width;
    read_sectors(volume, sector, volume->fat + cluster / per_sector, 1);
    const uint8_t *entry = sector + cluster % per_sector * width;
    uint32_t next = volume->is_fat32 ? le32(entry) & 0x0fffffff : le16(entry);
    return next >= 2 && next < volume->clusters + 2 ? next : 0;
}

/* "HELLO.BIN" as a folder has it: "HELLO   BIN". */
static void short_name(char name[11], const char *wanted) {
    const char *dot = strchr(wanted, '.');
    size_t base = dot ? (size_t)(dot - wanted) : strlen(wanted), extension = dot ? strlen(dot + 1) : 0;
    if (base == 0 || base > 8 || extension > 3)
        die("the name is no short one");
    memset(name, ' ', 11);
    memcpy(name, wanted, base);
    memcpy(name + 8, dot ? dot + 1 : "", extension);
}

/* Looks for a name in `count` sectors of a folder; -1 when the folder ends there. */
static int search(const struct volume *volume, uint64_t first, uint32_t count, const char name[11], uint8_t found[32]) {
    uint8_t sector[BLK_SECTOR_SIZE];
    for (uint32_t i = 0; i < count; i++) {
        read_sectors(volume, sector, first + i, 1);
        for (uint8_t *entry = sector; entry < sector + sizeof sector; entry += 32) {
            if (entry[0] == 0)
                return -1;
            if ((entry[11] & 0x18) == 0 && memcmp(entry, name, 11) == 0) {
                memcpy(found, entry, 32);
                return 1;
            }
        }
    }
    return 0;
}

static void find(const struct volume *volume, const char *wanted, uint8_t entry[32]) {
    char name[11];
    int found = 0;
    short_name(name, wanted);
    if (!volume->is_fat32)
        found = search(volume, volume->root, volume->root_sectors, name, entry);
    uint32_t cluster = volume->is_fat32 ? volume->root_cluster : 0;
    /* A chain has no more links than there are clusters, whatever a damaged table says. */
    for (uint32_t steps = 0; found == 0 && cluster >= 2 && steps < volume->clusters; steps++) {
        uint64_t first = volume->data + (uint64_t)(cluster - 2) * volume->per_cluster;
        found = search(volume, first, volume->per_cluster, name, entry);
        cluster = next_cluster(volume, cluster);
    }
    if (found <= 0)
        die("no such file");
}

static void copy_out(const struct volume *volume, const uint8_t entry[32]) {
    uint32_t cluster = le16(entry + 26) | (volume->is_fat32 ? le16(entry + 20) << 16 : 0), left = le32(entry + 28);
    uint32_t bytes = volume->per_cluster * BLK_SECTOR_SIZE;
    uint8_t *buffer = malloc(bytes);
    if (!buffer)
        die("no memory");
    while (left > 0) {
        if (cluster < 2 || cluster >= volume->clusters + 2)
            die("the file is cut off");
        uint32_t count = left < bytes ? left : bytes;
        read_sectors(volume, buffer, volume->data + (uint64_t)(cluster - 2) * volume->per_cluster, volume->per_cluster);
        if (fwrite(buffer, 1, count, stdout) != count)
            die("writing");
        left -= count;
        cluster = next_cluster(volume, cluster);
    }
    free(buffer);
}

int main(int count, char **arguments) {
    struct volume volume = {0};
    uint8_t entry[32];
    int partition = count == 4 ? atoi(arguments[2]) : 0;
    if (partition < 1 || partition > 4) {
        fprintf(stderr, "usage: fatcat IMAGE PARTITION NAME\n");
        return 2;
    }
    if (blk_open(arguments[1], NULL, BLK_READ_ONLY, &volume.disk) < 0)
        die(arguments[1]);
    open_volume(&volume, partition);
    find(&volume, arguments[3], entry);
    copy_out(&volume, entry);
    if (blk_close(volume.disk) < 0)
        die("closing");
    return fflush(stdout) == 0 ? 0 : 1;
}
