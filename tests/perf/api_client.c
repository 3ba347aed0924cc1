/*
 * A client of the REST API that does nothing else: times requests on a UNIX socket, for api_latency.ts.
 *
 *     api_client <socket> <endpoint> <requests> <requests to warm up> <1: a new connection each>
 *
 * Prints one time per line, in nanoseconds.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static long long now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
  return fd;
}

/* Sends the request and reads its whole answer, which must be a 200. */
static void exchange(int fd, const char *request, size_t length) {
  static char answer[1 << 17];
  size_t have = 0;
  if (write(fd, request, length) != (ssize_t)length) fail("write");
  for (;;) {
    ssize_t count = read(fd, answer + have, sizeof answer - 1 - have);
    if (count <= 0) fail("read");
    answer[have += count] = 0;
    char *end = strstr(answer, "\r\n\r\n");
    if (end == NULL) continue;
    char *field = strcasestr(answer, "content-length:");
    size_t body = field != NULL && field < end ? strtoul(field + 15, NULL, 10) : 0;
    if (have < (size_t)(end + 4 - answer) + body) continue;
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0) fail(answer);
    return;
  }
}

int main(int count, char **values) {
  if (count != 6) return 2;
  int requests = atoi(values[3]), warm_up = atoi(values[4]), is_new = atoi(values[5]);
  long long *times = calloc(requests, sizeof *times);
  char request[512];
  int length = snprintf(request, sizeof request, "GET /api/v1/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", values[2]);
  int fd = is_new ? -1 : connect_to(values[1]);
  for (int i = -warm_up; i < requests; i++) {
    long long began = now_ns();
    if (is_new) fd = connect_to(values[1]);
    exchange(fd, request, length);
    if (is_new) close(fd);
    if (i >= 0) times[i] = now_ns() - began;
  }
  for (int i = 0; i < requests; i++) printf("%lld\n", times[i]);
  return 0;
}
