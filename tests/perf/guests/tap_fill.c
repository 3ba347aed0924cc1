/*
 * Puts frames into a tap's queue, where they wait for whoever reads it: `tap_fill INTERFACE COUNT LENGTH`.
 *
 * Frames go out of the interface as raw packets; the interface's transmit queue must be long enough for all of them.
 */
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    static unsigned char frame[2048] = { 2, 0, 0, 0, 0xee, 2, 2, 0, 0, 0, 0xee, 1, 0x88, 0xb5 };
    int count = atoi(argv[2]), length = atoi(argv[3]);
    int fd = socket(AF_PACKET, SOCK_RAW, 0), buffer = 64 << 20;
    struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1]) };
    if (fd < 0 || to.sll_ifindex == 0) return perror(argv[1]), 1;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    for (int i = 0; i < count; i++)
        if (sendto(fd, frame, length, 0, (struct sockaddr *)&to, sizeof to) != length) return perror("sendto"), 1;
    return 0;
}
