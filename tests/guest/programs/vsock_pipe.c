/*
 * A pipe through a vsock socket, for guests without socat: `vsock_pipe connect CID PORT` or `vsock_pipe listen PORT COUNT`.
 *
 * Standard input goes out, then the sending side ends; what comes in goes to standard output until the other side ends.
 * `listen` says "listening" on standard error once it can be reached, and serves COUNT connections one after the other.
 */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

/* Copies until the end of `from`; writes may be short. */
static int copy(int from, int to) {
    static char bytes[1 << 16];
    for (;;) {
        ssize_t got = read(from, bytes, sizeof bytes);
        if (got < 0) return fail("read");
        if (got == 0) return 0;
        for (ssize_t done = 0; done < got;) {
            ssize_t count = write(to, bytes + done, got - done);
            if (count < 0) return fail("write");
            done += count;
        }
    }
}

static int carry(int socket) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int result = copy(0, socket);
        shutdown(socket, SHUT_WR);
        _exit(result);
    }
    int result = copy(socket, 1);
    waitpid(child, &status, 0);
    close(socket);
    return result | status;
}

int main(int argc, char **argv) {
    struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
    if (argc != 4) return 2;
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0) return fail("socket");
    if (strcmp(argv[1], "connect") == 0) {
        address.svm_cid = strtoul(argv[2], NULL, 10);
        address.svm_port = strtoul(argv[3], NULL, 10);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail("connect");
        return carry(fd);
    }
    address.svm_port = strtoul(argv[2], NULL, 10);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0) return fail("listen");
    fprintf(stderr, "listening\n");
    int result = 0;
    for (int left = atoi(argv[3]); left > 0; left--) {
        int stream = accept(fd, NULL, NULL);
        if (stream < 0) return fail("accept");
        result |= carry(stream);
    }
    return result;
}
