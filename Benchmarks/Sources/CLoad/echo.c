/* The echo that a socket allows at best: one thread and epoll, no framework. */
#define _GNU_SOURCE
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_anywhere(int *port) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 ||
      listen(listener, 1024) != 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
    return -1;
  *port = ntohs(address.sin_port);
  return listener;
}

static void watch(int epoll, int descriptor) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
  epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
}

int load_serve_echo(void) {
  int port = 0, listener = listen_anywhere(&port);
  if (listener < 0) return errno;
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  watch(epoll, listener);
  watch(epoll, STDIN_FILENO);
  printf("ready: %d\n", port);
  fflush(stdout);
  static char chunk[65536];
  struct epoll_event events[256];
  while (1) {
    int count = epoll_wait(epoll, events, 256, -1);
    for (int index = 0; index < count; index++) {
      int descriptor = events[index].data.fd;
      if (descriptor == STDIN_FILENO) return 0;
      if (descriptor == listener) {
        int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC), on = 1;
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(epoll, accepted);
        continue;
      }
      ssize_t received = recv(descriptor, chunk, sizeof chunk, 0);
      if (received <= 0) {
        close(descriptor);
        continue;
      }
      for (ssize_t sent = 0; sent < received;) {
        ssize_t part = send(descriptor, chunk + sent, (size_t)(received - sent), MSG_NOSIGNAL);
        if (part <= 0) break;
        sent += part;
      }
    }
  }
}
