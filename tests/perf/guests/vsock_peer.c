/*
 * The host's side of the socket benchmark: `vsock_peer SINK SOURCE`, paths of the two services.
 *
 * Whoever connects to SINK is read empty. Whoever connects to SOURCE gets as many bytes as each line on standard input says:
 * they wait in the socket, however many, and "filled" is printed once they do.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int serve(const char *path) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0) perror(path), exit(1);
    return fd;
}

static void *sink(void *listener) {
    static char bytes[1 << 18];
    for (;;) {
        int fd = accept((int)(long)listener, NULL, NULL);
        while (read(fd, bytes, sizeof bytes) > 0);
        close(fd);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    pthread_t thread;
    int sinks = serve(argv[1]), sources = serve(argv[2]), room = 512 << 20;
    pthread_create(&thread, NULL, sink, (void *)(long)sinks);
    puts("ready");
    fflush(stdout);
    static char bytes[1 << 16], line[32];
    int fd = accept(sources, NULL, NULL);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0) return perror("SO_SNDBUFFORCE"), 1;
    while (fgets(line, sizeof line, stdin) != NULL) {
        for (long left = atol(line); left > 0;) {
            long count = write(fd, bytes, left < (long)sizeof bytes ? left : (long)sizeof bytes);
            if (count < 0) return perror("write"), 1;
            left -= count;
        }
        puts("filled");
        fflush(stdout);
    }
    return 0;
}
