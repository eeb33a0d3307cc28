/* A load generator that costs as little as it can, because it shares the cores with what it measures: one thread, epoll,
   and requests that are ready-made bytes. */
#ifndef EDGE_LOAD_H
#define EDGE_LOAD_H
#include <stddef.h>
#include <stdint.h>

/* Where an answer ends: at a line end, or after as many bytes as its header says. */
enum load_framing { LOAD_LINES = 0, LOAD_HTTP = 1 };

typedef struct load load;

/* Connects to 127.0.0.1. Request i is the bytes from offsets[i] to offsets[i + 1], of `count`; they are copied. Every
   connection begins at another one. An answer must hold `expected` within its first 512 bytes (the body's, over HTTP).
   NULL when a connection fails. */
load *load_open(int port, int connections, enum load_framing framing, const uint8_t *tape,
                const size_t *offsets, size_t count, const char *expected);
void load_close(load *load);

typedef struct {
  uint64_t answers;
  uint64_t unexpected;
  /* From the first request to the last answer. */
  uint64_t nanoseconds;
  /* What this thread used of it. */
  uint64_t cpu_nanoseconds;
  /* From sending to receiving, one for each answer; the caller frees them. */
  uint64_t *times;
  size_t time_count;
  /* The first answer that was not as expected. */
  char first_unexpected[256];
} load_result;

/* Keeps `depth` requests in flight on each connection until `seconds` are over (0: no end) or `requests` were sent
   (0: no end); with `per_second` above 0 no more than so many begin in a second. What is in flight then is waited for.
   Returns 0, or an errno: ECONNRESET when a connection was closed, ETIMEDOUT after 30 s without an answer. */
int load_run(load *load, int depth, double seconds, uint64_t requests, double per_second,
             load_result *result);
/* Makes a run that goes on in another thread end. */
void load_stop(load *load);
void load_free_times(load_result *result);

/* CPU time of a process so far, in nanoseconds; 0 when there is none of that id. */
uint64_t load_process_cpu(int pid);

/* Removes a folder and all that is in it. */
void load_remove_tree(const char *path);

/* Serves an echo on a port of 127.0.0.1 that the system chooses, with one thread and epoll, until standard input ends;
   the port is written to standard output. Returns an errno when it cannot. */
int load_serve_echo(void);
#endif
