/* Every call of the interface, from one thread and from several. Ends with 0 when all is as it should be. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transload.h"

#define SIZE ((uint64_t)8 << 20)
#define THREADS 4
#define PART (SIZE / THREADS)

#define WANT(what)                                                                      \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, blk_error());         \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

struct job {
    struct blk_disk *disk;
    unsigned char *model;
    unsigned number;
};

static unsigned next(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Writes, zeroes and reads at random in a part of the disk that is its own. */
static void *work(void *argument) {
    struct job *job = argument;
    unsigned state = job->number + 1;
    uint64_t base = job->number * PART;
    unsigned char *buffer = malloc(100000);
    WANT(buffer);
    for (int step = 0; step < 150; step++) {
        size_t at = next(&state) % PART, length = next(&state) % 100000;
        if (length > PART - at)
            length = PART - at;
        switch (next(&state) % 3) {
        case 0:
            memset(buffer, (int)(next(&state) & 255), length);
            WANT(blk_write(job->disk, buffer, length, base + at) == 0);
            memcpy(job->model + base + at, buffer, length);
            break;
        case 1:
            WANT(blk_zero(job->disk, base + at, length) == 0);
            memset(job->model + base + at, 0, length);
            break;
        default:
            WANT(blk_read(job->disk, buffer, length, base + at) == 0);
            WANT(memcmp(buffer, job->model + base + at, length) == 0);
        }
    }
    free(buffer);
    WANT(blk_flush(job->disk) == 0);
    return NULL;
}

static void one_image(const char *path, const char *format, unsigned char *model) {
    struct blk_disk *disk = NULL;
    struct blk_info info;
    pthread_t threads[THREADS];
    struct job jobs[THREADS];
    unsigned char sector[1024], again[1024];
    int status = -1;
    uint64_t extent = 0;

    WANT(blk_create(path, format, SIZE, NULL) == 0);
    WANT(blk_create(path, format, SIZE, NULL) == -EEXIST);
    WANT(strlen(blk_error()) > 0);
    WANT(blk_open(path, NULL, BLK_READ_WRITE, &disk) == 0 && disk);
    WANT(blk_info(disk, &info) == 0);
    WANT(info.size == SIZE && info.sectors == SIZE / BLK_SECTOR_SIZE && info.writable == 1 && info.layers == 1);
    WANT(strcmp(info.format, format) == 0);
    WANT(blk_map(disk, 0, SIZE, &status, &extent) == 0 && status == BLK_ZERO && extent >= 1);

    memset(model, 0, SIZE);
    for (unsigned i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){disk, model, i};
        WANT(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        WANT(pthread_join(threads[i], NULL) == 0);

    memset(sector, 0x5a, sizeof sector);
    WANT(blk_write_sectors(disk, sector, 3, 2) == 0);
    memcpy(model + 3 * 512, sector, sizeof sector);
    WANT(blk_read_sectors(disk, again, 3, 2) == 0 && memcmp(sector, again, sizeof sector) == 0);
    WANT(blk_read(disk, again, sizeof again, 3 * 512) == 0 && memcmp(sector, again, sizeof sector) == 0);
    WANT(blk_map(disk, 3 * 512, 512, &status, &extent) == 0 && status == BLK_DATA && extent <= 512);

    /* What cannot be. */
    WANT(blk_read(disk, again, 1024, SIZE - 1023) == -EINVAL);
    WANT(blk_read(disk, again, 1, UINT64_MAX) == -EINVAL);
    WANT(blk_read_sectors(disk, again, UINT64_MAX, 1) == -EINVAL);
    WANT(blk_write(disk, NULL, 1, 0) == -EINVAL && strstr(blk_error(), "NULL"));
    WANT(blk_read(NULL, again, 1, 0) == -EINVAL);
    WANT(blk_map(disk, SIZE, 1, &status, &extent) == -EINVAL);
    WANT(blk_zero(disk, UINT64_MAX, 2) == -EINVAL);
    WANT(blk_read(disk, NULL, 0, SIZE) == 0 && strlen(blk_error()) == 0);
    WANT(blk_close(disk) == 0);

    WANT(blk_open(path, format, BLK_READ_ONLY | BLK_NO_REFERENCES, &disk) == 0);
    WANT(blk_info(disk, &info) == 0 && info.writable == 0);
    WANT(blk_write(disk, sector, 1, 0) == -EROFS);
    unsigned char *all = malloc(SIZE);
    WANT(all && blk_read(disk, all, SIZE, 0) == 0);
    WANT(memcmp(all, model, SIZE) == 0);
    free(all);
    WANT(blk_close(disk) == 0);
}

int main(void) {
    struct blk_disk *disk = (struct blk_disk *)1;
    unsigned char *model = malloc(SIZE);
    WANT(model);
    WANT(strlen(blk_version()) > 0);
    WANT(blk_open("missing", NULL, BLK_READ_ONLY, &disk) == -ENOENT && disk == NULL);
    WANT(strstr(blk_error(), "missing"));
    WANT(blk_open(NULL, NULL, BLK_READ_ONLY, &disk) == -EINVAL);
    WANT(blk_open("missing", "no such format", BLK_READ_ONLY, &disk) == -EINVAL);
    WANT(blk_open("missing", NULL, 99, &disk) == -EINVAL);
    WANT(blk_create("x", "iso", SIZE, NULL) == -EOPNOTSUPP || blk_create("x", "iso", SIZE, NULL) == -EINVAL);
    WANT(blk_create("x", "qcow2", SIZE, "nonsense=1") == -EINVAL);
    WANT(blk_close(NULL) == 0);

    FILE *lie = fopen("lie.qcow2", "wb");
    WANT(lie && fwrite("QFI\xfb\0\0\0\3garbage garbage garbage garbage garbage garbage garbage garbage", 1, 70, lie) == 70);
    WANT(fclose(lie) == 0);
    WANT(blk_open("lie.qcow2", NULL, BLK_READ_ONLY, &disk) < 0 && disk == NULL);

    one_image("disk.vhdx", "vhdx", model);
    one_image("disk.qcow2", "qcow2", model);
    FILE *file = fopen("model.raw", "wb");
    WANT(file && fwrite(model, 1, SIZE, file) == SIZE);
    WANT(fclose(file) == 0);
    free(model);
    return 0;
}
