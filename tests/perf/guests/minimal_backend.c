/*
 * The least a VMM can do for the I/O benchmark guest, in C: the yardstick for what the system calls themselves cost.
 *
 *     minimal_backend GUEST_ELF MEMORY_FILE DOORBELL_HEX QUEUE_SIZE block|net|vsock PATH|TAP|SOCKET
 *
 * One vCPU thread and one thread that waits in epoll for ioeventfds (and the tap or socket), reads and writes with one vectored
 * call per request, and interrupts with KVM_SIGNAL_MSI. It trusts its guest: no bounds are checked.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include "io_guest.h"

#define CHECK(call) ({ long r_ = (long)(call); if (r_ < 0) { perror(#call); exit(1); } r_; })
#define BATCH 32
#define MAX_SEGMENTS 64
#define TAP_TOKEN 99

struct desc { uint64_t address; uint32_t length; uint16_t flags, next; };
struct queue {
    struct desc *desc;
    volatile uint16_t *avail, *used;
    uint32_t *elements;
    uint16_t next, filled, published, size, seen;
    int kick;
};

static uint8_t *ram;
static volatile uint32_t *control;
static struct queue queues[MAX_QUEUES];
static int vm, file, is_net, is_vsock, event_idx;
static const char *path;

/* ---- the device's side of a queue ---- */

static int look(struct queue *q) {
    atomic_thread_fence(memory_order_acquire);
    q->seen = q->avail[1];
    return q->seen != q->next;
}

/* The buffers of the next chain. */
static int pop(struct queue *q, struct desc *out, int *count) {
    if (q->next == q->seen && !look(q)) return -1;
    uint16_t head = q->avail[2 + q->next++ % q->size];
    struct desc *d = &q->desc[head], *table = q->desc;
    if (d->flags & 4) d = table = (struct desc *)(ram + d->address);
    for (*count = 0;; d = &table[d->next]) {
        out[(*count)++] = *d;
        if (!(d->flags & 1)) return head;
    }
}

static void push(struct queue *q, int head, uint32_t length) {
    uint32_t *e = &q->elements[2 * (q->filled++ % q->size)];
    e[0] = head;
    e[1] = length;
}

static void publish(struct queue *q) {
    uint16_t before = q->published;
    if (before == q->filled) return;
    atomic_thread_fence(memory_order_release);
    q->used[1] = q->published = q->filled;
    atomic_thread_fence(memory_order_seq_cst);
    int wanted = event_idx ? (uint16_t)(q->filled - q->avail[2 + q->size] - 1) < (uint16_t)(q->filled - before)
                           : !(q->avail[0] & 1);
    if (wanted && (control[CTL_OPTIONS] & OPTION_INTERRUPTS)) {
        struct kvm_msi msi = { .address_lo = LAPIC_GPA, .data = INTERRUPT_VECTOR };
        ioctl(vm, KVM_SIGNAL_MSI, &msi);
    }
}

static int enable(struct queue *q) {
    if (event_idx) q->used[2 + 4 * q->size] = q->next;
    else q->used[0] = 0;
    atomic_thread_fence(memory_order_seq_cst);
    return look(q);
}

static void disable(struct queue *q) {
    if (!event_idx) q->used[0] = 1;
}

/* ---- devices ---- */

static int vectors(struct iovec *iov, const struct desc *d, int first, int end) {
    int n = 0;
    for (int i = first; i < end; i++) iov[n++] = (struct iovec){ ram + d[i].address, d[i].length };
    return n;
}

static void serve_block(struct queue *q) {
    struct desc d[MAX_SEGMENTS + 2];
    struct iovec iov[MAX_SEGMENTS + 2];
    int count, head, batch = 0;
    disable(q);
    do {
        while ((head = pop(q, d, &count)) >= 0) {
            uint32_t *header = (uint32_t *)(ram + d[0].address), length = 0;
            off_t offset = *(uint64_t *)(header + 2) * 512;
            int n = vectors(iov, d, 1, count - 1);
            for (int i = 0; i < n; i++) length += iov[i].iov_len;
            ssize_t got = header[0] == OP_READ ? preadv(file, iov, n, offset) : pwritev(file, iov, n, offset);
            ram[d[count - 1].address] = got != (ssize_t)length;
            push(q, head, header[0] == OP_READ ? length + 1 : 1);
            if (++batch % BATCH == 0) publish(q);
        }
        publish(q);
    } while (enable(q));
}

static void serve_transmit(struct queue *q) {
    struct desc d[MAX_SEGMENTS];
    struct iovec iov[MAX_SEGMENTS];
    int count, head, batch = 0;
    disable(q);
    do {
        while ((head = pop(q, d, &count)) >= 0) {
            if (writev(file, iov, vectors(iov, d, 0, count)) < 0) perror("writev");
            push(q, head, 0);
            if (++batch % BATCH == 0) publish(q);
        }
        publish(q);
    } while (enable(q));
}

/* Returns whether buffers were left: only then is the tap worth watching. */
static int serve_receive(struct queue *q) {
    struct desc d[MAX_SEGMENTS];
    struct iovec iov[MAX_SEGMENTS];
    int count, batch = 0;
    disable(q);
    for (;;) {
        int head = pop(q, d, &count);
        if (head < 0) {
            publish(q);
            if (enable(q)) continue;
            return 0;
        }
        ssize_t got = readv(file, iov, vectors(iov, d, 0, count));
        if (got < 0) {
            q->next--;
            publish(q);
            return 1;
        }
        *(uint16_t *)(ram + d[0].address + 10) = 1;
        push(q, head, got);
        if (++batch % BATCH == 0) publish(q);
    }
}

/* ---- sockets: one connection, of the guest's making ---- */

#define VSOCK_ROOM (64 << 10)

struct vsock_header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static struct vsock_header answer;
static uint32_t forwarded, told;

/* One packet for the guest, of what waits in the socket when `op` is RW; 0 if nothing waits, -1 without a buffer. */
static int tell(uint16_t op) {
    struct desc d[MAX_SEGMENTS];
    struct queue *q = &queues[0];
    int count, head = pop(q, d, &count);
    if (head < 0) return -1;
    struct vsock_header *h = (struct vsock_header *)(ram + d[0].address);
    ssize_t got = 0;
    if (op == VSOCK_RW && (got = read(file, h + 1, d[0].length - sizeof *h)) <= 0) {
        q->next--;
        return 0;
    }
    *h = answer;
    h->op = op;
    h->len = got;
    h->fwd_cnt = told = forwarded;
    push(q, head, sizeof *h + got);
    return 1;
}

static void dial(const struct vsock_header *request) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s_%u", path, request->dst_port);
    file = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK(connect(file, (struct sockaddr *)&address, sizeof address));
    CHECK(fcntl(file, F_SETFL, O_NONBLOCK));
    answer = (struct vsock_header){ .src_cid = 2, .dst_cid = request->src_cid, .src_port = request->dst_port,
                                    .dst_port = request->src_port, .type = 1, .buf_alloc = VSOCK_ROOM };
    tell(VSOCK_RESPONSE);
}

/* What the socket does not take at once is waited for: there is one connection only. */
static void forward(const char *bytes, uint32_t left) {
    while (left > 0) {
        ssize_t sent = write(file, bytes, left);
        if (sent < 0) continue;
        bytes += sent;
        left -= sent;
        forwarded += sent;
    }
}

static void serve_packets(struct queue *q) {
    struct desc d[MAX_SEGMENTS];
    int count, head, batch = 0;
    disable(q);
    do {
        while ((head = pop(q, d, &count)) >= 0) {
            struct vsock_header *h = (struct vsock_header *)(ram + d[0].address);
            if (h->op == VSOCK_REQUEST) dial(h);
            if (h->op == VSOCK_RW) forward((char *)(h + 1), h->len);
            push(q, head, 0);
            if (++batch % BATCH == 0) publish(q);
            if (forwarded - told >= VSOCK_ROOM / 2) tell(VSOCK_CREDIT_UPDATE);
        }
        publish(q);
        publish(&queues[0]);
    } while (enable(q));
}

/* Returns whether buffers were left. */
static int serve_stream(struct queue *q) {
    int batch = 0, result;
    disable(q);
    for (;;) {
        while ((result = tell(VSOCK_RW)) > 0) if (++batch % BATCH == 0) publish(q);
        publish(q);
        if (result == 0) return 1;
        if (!enable(q)) return 0;
    }
}

static void *io_thread(void *argument) {
    (void)argument;
    int set = CHECK(epoll_create1(0)), watched = 0;
    uint64_t value;
    for (int i = 0; i < MAX_QUEUES; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
        CHECK(epoll_ctl(set, EPOLL_CTL_ADD, queues[i].kick, &event));
    }
    struct epoll_event tap = { .events = 0, .data.u32 = TAP_TOKEN };
    if (is_net) CHECK(epoll_ctl(set, EPOLL_CTL_ADD, file, &tap));
    int added = 0;
    for (;;) {
        struct epoll_event events[8];
        int n = epoll_wait(set, events, 8, -1);
        event_idx = control[CTL_OPTIONS] & OPTION_EVENT_IDX;
        for (int i = 0; i < n; i++) {
            uint32_t token = events[i].data.u32;
            if (token != TAP_TOKEN && read(queues[token].kick, &value, 8) != 8) continue;
            if (is_vsock && token == 1) {
                serve_packets(&queues[1]);
                if (!added && file > 0) CHECK(epoll_ctl(set, EPOLL_CTL_ADD, file, &tap));
                added = file > 0;
            } else if (is_vsock) {
                int wanted = file > 0 && serve_stream(&queues[0]);
                if (added && wanted != watched) {
                    tap.events = wanted ? EPOLLIN : 0;
                    CHECK(epoll_ctl(set, EPOLL_CTL_MOD, file, &tap));
                    watched = wanted;
                }
            } else if (!is_net) serve_block(&queues[token]);
            else if (token == 1) serve_transmit(&queues[1]);
            else {
                int wanted = serve_receive(&queues[0]);
                if (wanted != watched) {
                    tap.events = wanted ? EPOLLIN : 0;
                    CHECK(epoll_ctl(set, EPOLL_CTL_MOD, file, &tap));
                    watched = wanted;
                }
            }
        }
    }
}

/* ---- the machine ---- */

/* Loads the guest; returns the address in its PVH note. */
static uint32_t load(const char *path) {
    int fd = CHECK(open(path, O_RDONLY));
    static uint8_t image[1 << 20];
    CHECK(read(fd, image, sizeof image));
    close(fd);
    Elf64_Ehdr *head = (Elf64_Ehdr *)image;
    Elf64_Phdr *segment = (Elf64_Phdr *)(image + head->e_phoff);
    uint32_t entry = 0;
    for (int i = 0; i < head->e_phnum; i++, segment++) {
        if (segment->p_type == PT_LOAD) memcpy(ram + segment->p_paddr, image + segment->p_offset, segment->p_filesz);
        if (segment->p_type == PT_NOTE) entry = *(uint32_t *)(image + segment->p_offset + 16);
    }
    return entry;
}

static int open_tap(const char *name) {
    int fd = CHECK(open("/dev/net/tun", O_RDWR | O_NONBLOCK)), header = 12;
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    CHECK(ioctl(fd, TUNSETIFF, &request));
    CHECK(ioctl(fd, TUNSETVNETHDRSZ, &header));
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: %s ELF MEMORY DOORBELL QUEUE_SIZE block|net|vsock PATH\n", argv[0]);
        return 2;
    }
    uint64_t doorbell = strtoul(argv[3], NULL, 16);
    int size = atoi(argv[4]);
    is_net = strcmp(argv[5], "net") == 0;
    is_vsock = strcmp(argv[5], "vsock") == 0;
    path = argv[6];
    file = is_net ? open_tap(path) : is_vsock ? 0 : CHECK(open(path, O_RDWR));
    int memory = CHECK(open(argv[2], O_RDWR));
    ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    CHECK(ram == MAP_FAILED ? -1 : 0);
    control = (volatile uint32_t *)(ram + CONTROL_GPA);
    uint32_t entry = load(argv[1]);

    int kvm = CHECK(open("/dev/kvm", O_RDWR));
    vm = CHECK(ioctl(kvm, KVM_CREATE_VM, 0));
    CHECK(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000));
    struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
    CHECK(ioctl(vm, KVM_ENABLE_CAP, &split));
    struct kvm_userspace_memory_region region = { .memory_size = RAM_BYTES, .userspace_addr = (uint64_t)ram };
    CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
    for (int i = 0; i < MAX_QUEUES; i++) {
        uint8_t *base = ram + QUEUES_GPA + i * QUEUE_STRIDE;
        struct queue *q = &queues[i];
        q->desc = (struct desc *)base;
        q->avail = (volatile uint16_t *)(base + AVAIL_OFFSET);
        q->used = (volatile uint16_t *)(base + USED_OFFSET);
        q->elements = (uint32_t *)(base + USED_OFFSET + 4);
        q->size = size;
        q->kick = CHECK(eventfd(0, EFD_NONBLOCK));
        struct kvm_ioeventfd bell = { .addr = doorbell + 4 * i, .len = 2, .fd = q->kick };
        CHECK(ioctl(vm, KVM_IOEVENTFD, &bell));
    }
    int vcpu = CHECK(ioctl(vm, KVM_CREATE_VCPU, 0));
    struct kvm_run *run = mmap(NULL, CHECK(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)), PROT_READ | PROT_WRITE, MAP_SHARED,
                               vcpu, 0);
    struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entries[128]; } cpuid = { .head.nent = 128 };
    CHECK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid));
    CHECK(ioctl(vcpu, KVM_SET_CPUID2, &cpuid));
    struct kvm_sregs sregs;
    CHECK(ioctl(vcpu, KVM_GET_SREGS, &sregs));
    struct kvm_segment flat = { .limit = ~0u, .present = 1, .s = 1, .db = 1, .g = 1, .type = 3, .selector = 0x10 };
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    flat.type = 11;
    flat.selector = 8;
    sregs.cs = flat;
    sregs.cr0 = 1;
    sregs.apic_base = LAPIC_GPA | 0x900;
    CHECK(ioctl(vcpu, KVM_SET_SREGS, &sregs));
    struct kvm_regs regs = { .rip = entry, .rflags = 2 };
    CHECK(ioctl(vcpu, KVM_SET_REGS, &regs));

    pthread_t thread;
    pthread_create(&thread, NULL, io_thread, NULL);
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0 && errno != EINTR) { perror("KVM_RUN"); return 1; }
        if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR || run->exit_reason == KVM_EXIT_SHUTDOWN) {
            fprintf(stderr, "exit reason %u\n", run->exit_reason);
            return 1;
        }
    }
}
