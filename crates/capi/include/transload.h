#ifndef TRANSLOAD_H
#define TRANSLOAD_H

/* Made from crates/capi/src/lib.rs; do not edit. Described in docs/c.md. */

#include <stddef.h>
#include <stdint.h>

// Bytes of a sector, for the functions that count in sectors.
#define BLK_SECTOR_SIZE 512

// `blk_open`: for reading alone.
#define BLK_READ_ONLY 0

// `blk_open`: for reading and writing.
#define BLK_READ_WRITE 1

// `blk_open`: open no file that the image names. Without it, files in the image's own folder are.
#define BLK_NO_REFERENCES 2

// `blk_map`: bytes that have to be read to be known.
#define BLK_DATA 0

// `blk_map`: reads as zeroes.
#define BLK_ZERO 1

// An image that is open.
struct blk_disk;

// What a disk is.
struct blk_info {
  // Bytes.
  uint64_t size;
  // Whole sectors of 512 bytes.
  uint64_t sectors;
  // The request that costs least per byte, in bytes.
  uint32_t preferred;
  // The unit in which the image allocates, in bytes: cluster, grain, block.
  uint32_t granularity;
  // Images in the chain: 1, and one for each backing file or parent.
  uint32_t layers;
  // 1 where it can be written, else 0.
  uint32_t writable;
  // The format's name, such as "qcow2", with a zero byte at its end.
  char format[32];
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens the image at `path`, with everything it hangs from. `format` is its name, or NULL to find it out from the bytes; say "raw"
// for a raw disk that a stranger could have written to, or it may be taken for another format. `flags` are BLK_READ_ONLY
// or BLK_READ_WRITE, and BLK_NO_REFERENCES.
//
// Puts the disk into `disk` and answers 0, or a negative errno: -ENOENT, -EACCES, -EUCLEAN for a corrupt image, -EOPNOTSUPP for one that
// needs what is not supported, and so on.
//
// What the caller answers for:
// `path` and `format` are strings with a zero byte at their end, `disk` a place for a pointer.
int blk_open(const char *path,
             const char *format,
             uint32_t flags,
             struct blk_disk **disk);

// Makes a new image of `size` bytes at `path`, which must not exist. `options` are those of the format, "NAME=VALUE,…", or NULL. The image
// is there when it is whole; it is then opened with `blk_open`.
//
// Answers 0 or a negative errno: -EEXIST where there is something at `path`.
//
// What the caller answers for:
// `path`, `format` and `options` are strings with a zero byte at their end.
int blk_create(const char *path,
               const char *format,
               uint64_t size,
               const char *options);

// Puts what the disk is into `info`. Answers 0 or a negative errno.
//
// What the caller answers for:
// `disk` is from `blk_open` and not closed, `info` a place for the structure.
int blk_info(const struct blk_disk *disk, struct blk_info *info);

// Says what stands at `offset`: BLK_DATA or BLK_ZERO in `status`, and in `extent` for how many of the `length` bytes from there on that is so, at
// least 1. No payload is read. Answers 0 or a negative errno.
//
// What the caller answers for:
// `disk` is from `blk_open` and not closed, `status` and `extent` are places for their answers.
int blk_map(const struct blk_disk *disk,
            uint64_t offset,
            uint64_t length,
            int *status,
            uint64_t *extent);

// Reads `length` bytes at `offset` into `buffer`: all of them or an error. Answers 0 or a negative errno: -EINVAL behind the end of the disk.
//
// What the caller answers for:
// `disk` is from `blk_open` and not closed, `buffer` has room for `length` bytes, which nobody else uses meanwhile.
int blk_read(const struct blk_disk *disk,
             void *buffer,
             size_t length,
             uint64_t offset);

// Writes `length` bytes of `buffer` at `offset`: all of them or an error. They survive a crash after `blk_flush`. Answers 0 or a negative
// errno: -EROFS for a disk that was opened for reading, -ENOSPC where the storage is full.
//
// What the caller answers for:
// `disk` is from `blk_open` and not closed, `buffer` has `length` bytes, which nobody changes meanwhile.
int blk_write(const struct blk_disk *disk,
              const void *buffer,
              size_t length,
              uint64_t offset);

// As `blk_read`, for `count` sectors of 512 bytes from sector `first` on.
//
// What the caller answers for:
// As `blk_read`, with `count * 512` bytes.
int blk_read_sectors(const struct blk_disk *disk, void *buffer, uint64_t first, uint32_t count);

// As `blk_write`, for `count` sectors of 512 bytes from sector `first` on.
//
// What the caller answers for:
// As `blk_write`, with `count * 512` bytes.
int blk_write_sectors(const struct blk_disk *disk, const void *buffer, uint64_t first, uint32_t count);

// Makes `length` bytes at `offset` read as zeroes, without storing them where the image can do without. Answers 0 or a negative errno.
//
// What the caller answers for:
// `disk` is from `blk_open` and not closed.
int blk_zero(const struct blk_disk *disk,
             uint64_t offset,
             uint64_t length);

// Makes everything that was written before survive a crash. Answers 0 or a negative errno.
//
// What the caller answers for:
// `disk` is from `blk_open` and not closed.
int blk_flush(const struct blk_disk *disk);

// Writes what is still in memory, closes the image and frees the disk, also where that fails; NULL is let be. No other call may use the disk at
// the same time or later. Answers 0 or a negative errno, after which the image is as a crash would leave it.
//
// What the caller answers for:
// `disk` is NULL, or from `blk_open` and not closed.
int blk_close(struct blk_disk *disk);

// Why the last call on this thread failed, as a sentence; an empty one where it did not. Valid until the next call on this thread.
const char *blk_error(void);

// The version of the library.
const char *blk_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TRANSLOAD_H */
