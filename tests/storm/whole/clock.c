/* Loaded into one process (LD_PRELOAD), it moves that process's wall clock by as many nanoseconds as stand in the
 * file that STORM_CLOCK names, whenever they are changed. Time that only goes on (CLOCK_MONOTONIC) stays as it is. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000

static volatile int64_t *offset;

__attribute__((constructor)) static void find_offset(void) {
  const char *path = getenv("STORM_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0)
    return;
  void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (mapped != MAP_FAILED)
    offset = mapped;
  close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = syscall(SYS_clock_gettime, clock, time);
  if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t moved = time->tv_sec * (int64_t)SECOND + time->tv_nsec + *offset;
    time->tv_sec = moved / SECOND;
    time->tv_nsec = moved % SECOND;
  }
  return failed;
}
