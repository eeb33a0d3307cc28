/* The load generator: see load.h. */
#define _GNU_SOURCE
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 1024
#define CHUNK_BYTES 65536
#define HEADER_BYTES 4096
#define LOOK_BYTES 512

typedef struct {
  int descriptor;
  size_t next;
  int in_flight, oldest;
  uint64_t sent[DEPTH_MAX];
  /* What came of an answer whose end has not come: its head, for HTTP its header too. */
  char head[HEADER_BYTES];
  size_t head_bytes;
  size_t body_left;
  int in_body;
} lane;

struct load {
  int count, epoll;
  enum load_framing framing;
  lane *lanes;
  uint8_t *tape;
  size_t *offsets, requests;
  char *expected;
  size_t expected_bytes;
  atomic_int stopped;
  uint64_t *times;
  size_t time_count, time_room;
};

static uint64_t now_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int connect_to(int port) {
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
    close(descriptor);
    return -1;
  }
  int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return descriptor;
}

load *load_open(int port, int connections, enum load_framing framing, const uint8_t *tape,
                const size_t *offsets, size_t count, const char *expected) {
  load *made = calloc(1, sizeof *made);
  made->lanes = calloc((size_t)connections, sizeof *made->lanes);
  made->epoll = epoll_create1(EPOLL_CLOEXEC);
  made->framing = framing;
  made->tape = malloc(offsets[count]);
  memcpy(made->tape, tape, offsets[count]);
  made->offsets = malloc((count + 1) * sizeof *offsets);
  memcpy(made->offsets, offsets, (count + 1) * sizeof *offsets);
  made->requests = count;
  made->expected = strdup(expected);
  made->expected_bytes = strlen(expected);
  for (int index = 0; index < connections; index++) {
    lane *lane = &made->lanes[index];
    lane->descriptor = connect_to(port);
    if (lane->descriptor < 0) {
      load_close(made);
      return NULL;
    }
    made->count++;
    lane->next = count * (size_t)index / (size_t)connections;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = lane};
    epoll_ctl(made->epoll, EPOLL_CTL_ADD, lane->descriptor, &event);
  }
  return made;
}

void load_close(load *load) {
  if (!load) return;
  for (int index = 0; index < load->count; index++) close(load->lanes[index].descriptor);
  close(load->epoll);
  free(load->lanes);
  free(load->tape);
  free(load->offsets);
  free(load->expected);
  free(load);
}

void load_stop(load *load) { atomic_store(&load->stopped, 1); }
void load_free_times(load_result *result) { free(result->times); }

static int send_all(int descriptor, const uint8_t *bytes, size_t count) {
  while (count > 0) {
    ssize_t sent = send(descriptor, bytes, count, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return errno ? errno : EPIPE;
    bytes += sent;
    count -= (size_t)sent;
  }
  return 0;
}

/* Sends up to `wanted` further requests, as one piece where they lie behind each other. */
static int fill(load *load, lane *lane, int wanted) {
  uint64_t now = now_ns(CLOCK_MONOTONIC);
  while (wanted > 0) {
    size_t count = load->requests - lane->next;
    if (count > (size_t)wanted) count = (size_t)wanted;
    size_t start = load->offsets[lane->next];
    for (size_t each = 0; each < count; each++)
      lane->sent[(lane->oldest + lane->in_flight++) % DEPTH_MAX] = now;
    int code = send_all(lane->descriptor, load->tape + start,
                        load->offsets[lane->next + count] - start);
    if (code) return code;
    lane->next = (lane->next + count) % load->requests;
    wanted -= (int)count;
  }
  return 0;
}

static void answered(load *load, lane *lane, const char *head, size_t bytes, uint64_t now,
                     load_result *result) {
  if (load->time_count == load->time_room) {
    load->time_room = load->time_room ? load->time_room * 2 : 4096;
    load->times = realloc(load->times, load->time_room * sizeof *load->times);
  }
  load->times[load->time_count++] = now - lane->sent[lane->oldest];
  lane->oldest = (lane->oldest + 1) % DEPTH_MAX;
  lane->in_flight--;
  result->answers++;
  if (bytes > LOOK_BYTES) bytes = LOOK_BYTES;
  if (load->expected_bytes && !memmem(head, bytes, load->expected, load->expected_bytes)) {
    if (result->unexpected++ == 0) {
      size_t kept = bytes < sizeof result->first_unexpected ? bytes
                                                            : sizeof result->first_unexpected - 1;
      memcpy(result->first_unexpected, head, kept);
      result->first_unexpected[kept] = 0;
    }
  }
}

static void keep_head(lane *lane, const char *bytes, size_t count) {
  if (count > HEADER_BYTES - lane->head_bytes) count = HEADER_BYTES - lane->head_bytes;
  memcpy(lane->head + lane->head_bytes, bytes, count);
  lane->head_bytes += count;
}

static void take_lines(load *load, lane *lane, const char *bytes, size_t count, uint64_t now,
                       load_result *result) {
  const char *end;
  while (count > 0 && (end = memchr(bytes, '\n', count))) {
    size_t length = (size_t)(end - bytes) + 1;
    if (lane->head_bytes) {
      keep_head(lane, bytes, length);
      answered(load, lane, lane->head, lane->head_bytes, now, result);
      lane->head_bytes = 0;
    } else {
      answered(load, lane, bytes, length, now, result);
    }
    bytes += length;
    count -= length;
  }
  if (count) keep_head(lane, bytes, count);
}

/* The number behind `content-length:` in a header that ends with an empty line; -1 without one. */
static long content_length(const char *header, size_t bytes) {
  static const char name[] = "\ncontent-length:";
  for (size_t at = 0; at + sizeof name < bytes; at++)
    if (header[at] == '\n' && strncasecmp(header + at, name, sizeof name - 1) == 0)
      return strtol(header + at + sizeof name - 1, NULL, 10);
  return -1;
}

static int take_http(load *load, lane *lane, const char *bytes, size_t count, uint64_t now,
                     load_result *result) {
  while (count > 0) {
    if (!lane->in_body) {
      /* An empty line may be cut in two: look again at the last bytes that were there. */
      size_t old = lane->head_bytes;
      keep_head(lane, bytes, count);
      size_t from = old > 3 ? old - 3 : 0;
      char *end = memmem(lane->head + from, lane->head_bytes - from, "\r\n\r\n", 4);
      if (!end) {
        if (lane->head_bytes == HEADER_BYTES) return EPROTO;
        return 0;
      }
      size_t header = (size_t)(end - lane->head) + 4;
      long body = content_length(lane->head, header);
      if (body < 0) return EPROTO;
      bytes += header - old;
      count -= header - old;
      lane->head_bytes = 0;
      lane->in_body = 1;
      lane->body_left = (size_t)body;
    }
    size_t part = count < lane->body_left ? count : lane->body_left;
    keep_head(lane, bytes, part);
    bytes += part;
    count -= part;
    lane->body_left -= part;
    if (lane->body_left == 0) {
      answered(load, lane, lane->head, lane->head_bytes, now, result);
      lane->head_bytes = 0;
      lane->in_body = 0;
    }
  }
  return 0;
}

static int receive(load *load, lane *lane, uint64_t *now, load_result *result) {
  static _Thread_local char chunk[CHUNK_BYTES];
  ssize_t count = recv(lane->descriptor, chunk, sizeof chunk, MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (count <= 0) return ECONNRESET;
  *now = now_ns(CLOCK_MONOTONIC);
  if (load->framing == LOAD_HTTP)
    return take_http(load, lane, chunk, (size_t)count, *now, result);
  take_lines(load, lane, chunk, (size_t)count, *now, result);
  return 0;
}

/* How many requests of a paced run may have begun by now. */
static uint64_t due(uint64_t start, uint64_t now, double per_second) {
  return per_second > 0 ? 1 + (uint64_t)((double)(now - start) / 1e9 * per_second) : UINT64_MAX;
}

static int make_timer(load *load, double per_second) {
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  long step = (long)(1e9 / per_second);
  struct timespec interval = {.tv_sec = step / 1000000000, .tv_nsec = step % 1000000000};
  struct itimerspec times = {.it_interval = interval, .it_value = interval};
  timerfd_settime(timer, 0, &times, NULL);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(load->epoll, EPOLL_CTL_ADD, timer, &event);
  return timer;
}

/* What is still to be sent by this moment, over all connections that have room, the emptiest not sought: they take
   turns. */
static int fill_paced(load *load, int depth, uint64_t allowed, uint64_t *sent, int *turn) {
  for (int tried = 0; tried < load->count && *sent < allowed; tried++) {
    lane *lane = &load->lanes[*turn];
    *turn = (*turn + 1) % load->count;
    if (lane->in_flight >= depth) continue;
    int code = fill(load, lane, 1);
    if (code) return code;
    ++*sent;
    tried = -1;
  }
  return 0;
}

int load_run(load *load, int depth, double seconds, uint64_t requests, double per_second,
             load_result *result) {
  memset(result, 0, sizeof *result);
  if (depth < 1 || depth > DEPTH_MAX) return EINVAL;
  load->times = NULL;
  load->time_count = load->time_room = 0;
  atomic_store(&load->stopped, 0);
  uint64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
  uint64_t start = now_ns(CLOCK_MONOTONIC), now = start;
  uint64_t deadline = seconds > 0 ? start + (uint64_t)(seconds * 1e9) : UINT64_MAX;
  uint64_t limit = requests ? requests : UINT64_MAX, sent = 0, flying = 0;
  int code = 0, turn = 0, timer = per_second > 0 ? make_timer(load, per_second) : -1;
  for (int index = 0; timer < 0 && !code && index < load->count; index++) {
    int wanted = limit - sent < (uint64_t)depth ? (int)(limit - sent) : depth;
    code = fill(load, &load->lanes[index], wanted);
    sent += (uint64_t)wanted;
  }
  struct epoll_event events[256];
  while (!code) {
    flying = sent - result->answers;
    int over = now >= deadline || sent >= limit || atomic_load(&load->stopped);
    if (over && flying == 0) break;
    int count = epoll_wait(load->epoll, events, 256, 30000);
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) code = ETIMEDOUT;
    for (int index = 0; !code && index < count; index++) {
      lane *lane = events[index].data.ptr;
      if (!lane) {
        uint64_t ticks;
        now = now_ns(CLOCK_MONOTONIC);
        if (read(timer, &ticks, sizeof ticks) > 0 && !over) {
          uint64_t allowed = due(start, now, per_second);
          code = fill_paced(load, depth, allowed < limit ? allowed : limit, &sent, &turn);
        }
        continue;
      }
      code = receive(load, lane, &now, result);
      int wanted = depth - lane->in_flight;
      if (code || timer >= 0 || wanted <= 0 || now >= deadline || sent >= limit) continue;
      if (atomic_load_explicit(&load->stopped, memory_order_relaxed)) continue;
      if (limit - sent < (uint64_t)wanted) wanted = (int)(limit - sent);
      code = fill(load, lane, wanted);
      sent += (uint64_t)wanted;
    }
  }
  if (timer >= 0) close(timer);
  result->nanoseconds = now_ns(CLOCK_MONOTONIC) - start;
  result->cpu_nanoseconds = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
  result->times = load->times;
  result->time_count = load->time_count;
  return code;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)status, (void)kind, (void)place;
  remove(path);
  return 0;
}

void load_remove_tree(const char *path) {
  nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

uint64_t load_process_cpu(int pid) {
  clockid_t clock;
  struct timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
