/*
 * Guest that measures virtio-blk, virtio-net and virtio-vsock in cycles: set up in ring 0, driven by polling in ring 3.
 *
 * It finds its device by a scan of configuration space and negotiates as Linux does. Then it waits for jobs in the control
 * words and answers there: no exits but notifications. Virtio 1.2; PCI Local Bus 3.0.
 */
#include "io_guest.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4
#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY 1

#define F_INDIRECT (1ul << 28)
#define F_EVENT_IDX (1ul << 29)
#define F_VERSION_1 (1ul << 32)
/* SIZE_MAX SEG_MAX GEOMETRY RO BLK_SIZE FLUSH TOPOLOGY CONFIG_WCE MQ DISCARD WRITE_ZEROES */
#define BLOCK_FEATURES 0x7e76ul
/* CSUM GUEST_CSUM MTU MAC HOST_TSO4 HOST_TSO6 HOST_ECN HOST_UFO STATUS */
#define NET_FEATURES 0x1782bul

#define NET_HEADER 12
#define FRAME_STRIDE 2048
#define SECTOR 512
#define BLOCK 4096
#define STAMP_MASK 0xfffffffffful
#define WRITTEN (1ul << 40)

struct desc { u64 address; u32 length; u16 flags; u16 next; };
struct avail { u16 flags; volatile u16 index; u16 ring[]; };
struct used { volatile u16 flags; volatile u16 index; struct { u32 id, length; } ring[]; };

struct queue {
    struct desc *desc;
    struct avail *avail;
    struct used *used;
    volatile u16 *doorbell;
    u16 number, size, mask;
    u16 next;     /* next avail entry */
    u16 told;     /* avail index at the last decision about a notification */
    u16 seen;     /* next used entry */
};

struct block_request { u32 type, reserved; u64 sector; u8 status; u8 pad[7]; u64 block; struct desc table[64]; };

extern u64 device_directory[512];
static struct queue queues[MAX_QUEUES];
static int event_idx, indirect;
static u32 kicks;

#define control ((volatile u32 *)CONTROL_GPA)
#define samples ((u32 *)SAMPLES_GPA)
#define requests ((struct block_request *)REQUESTS_GPA)

/* ---- ring 0 ---- */

static inline void outl(u16 port, u32 value) { asm volatile("outl %0, %1" :: "a"(value), "Nd"(port)); }
static inline u32 inl(u16 port) { u32 v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

static u32 pci_read(u32 device, u32 offset) {
    outl(0xcf8, 0x80000000u | device << 11 | (offset & 0xfc));
    return inl(0xcfc);
}

static void pci_write(u32 device, u32 offset, u32 value) {
    outl(0xcf8, 0x80000000u | device << 11 | (offset & 0xfc));
    outl(0xcfc, value);
}

/* Maps the 2 MiB around a physical address into slot `slot` of the device pages; returns where. */
static u64 map_device(u32 slot, u64 address) {
    device_directory[slot] = (address & ~0x1ffffful) | 0x97; /* uncached */
    return (1ul << 30) + slot * 0x200000ul + (address & 0x1ffffful);
}

static u64 bar_address(u32 device, u32 bar) {
    u32 low = pci_read(device, 0x10 + 4 * bar);
    u64 high = (low & 6) == 4 ? pci_read(device, 0x14 + 4 * bar) : 0;
    return high << 32 | (low & ~0xfu);
}

static inline void wrmsr(u32 msr, u32 value) { asm volatile("wrmsr" :: "c"(msr), "a"(value), "d"(0)); }

/* Lets messages in. They stay pending: interrupts are off in ring 3. */
static void enable_apic(void) {
    wrmsr(0x1b, LAPIC_GPA | 0xd00); /* IA32_APIC_BASE: boot CPU, x2APIC, enabled */
    wrmsr(0x80f, 0x1ff);            /* spurious vector: software enable */
}

struct common {
    volatile u32 device_feature_select, device_feature, driver_feature_select, driver_feature;
    volatile u16 config_vector, queue_count;
    volatile u8 status, generation;
    volatile u16 queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
    volatile u32 desc_low, desc_high, driver_low, driver_high, device_low, device_high;
};

static void place_queue(u32 index, u32 size) {
    struct queue *q = &queues[index];
    u64 base = QUEUES_GPA + index * QUEUE_STRIDE;
    q->desc = (struct desc *)base;
    q->avail = (struct avail *)(base + AVAIL_OFFSET);
    q->used = (struct used *)(base + USED_OFFSET);
    q->number = index;
    q->size = size;
    q->mask = size - 1;
    if (!(control[CTL_OPTIONS] & OPTION_INTERRUPTS)) q->avail->flags = AVAIL_NO_INTERRUPT;
}

static int set_up_pci(void) {
    u32 device, wanted = 0x1af4u | (0x1040u + control[CTL_DEVICE]) << 16;
    for (device = 1; device < 32; device++) if (pci_read(device, 0) == wanted) break;
    if (device == 32) return FAULT_NO_DEVICE;
    pci_write(device, 4, 6); /* memory space, bus master */
    u64 common_at = 0, notify_at = 0, config_at = 0;
    u32 multiplier = 0, msix = 0;
    for (u32 cap = pci_read(device, 0x34) & 0xfc; cap != 0;) {
        u32 head = pci_read(device, cap);
        u32 kind = head >> 24;
        if ((head & 0xff) == 0x11) msix = cap;
        if ((head & 0xff) == 0x09 && kind >= 1 && kind <= 4 && kind != 3) {
            u64 at = map_device(kind, bar_address(device, pci_read(device, cap + 4) & 0xff) + pci_read(device, cap + 8));
            if (kind == 1) common_at = at;
            if (kind == 2) { notify_at = at; multiplier = pci_read(device, cap + 16); }
            if (kind == 4) config_at = at;
        }
        cap = head >> 8 & 0xfc;
    }
    if (common_at == 0 || notify_at == 0 || config_at == 0) return FAULT_NO_CAPABILITY;

    struct common *c = (struct common *)common_at;
    c->status = 0;
    while (c->status != 0);
    c->status = 3;
    c->device_feature_select = 0;
    u64 offered = c->device_feature;
    c->device_feature_select = 1;
    offered |= (u64)c->device_feature << 32;
    u64 own = control[CTL_DEVICE] == DEVICE_BLOCK ? BLOCK_FEATURES : control[CTL_DEVICE] == DEVICE_NET ? NET_FEATURES : 0;
    u64 accepted = offered & (F_VERSION_1 | own |
                              (event_idx ? F_EVENT_IDX : 0) | (indirect ? F_INDIRECT : 0));
    event_idx = (accepted & F_EVENT_IDX) != 0;
    indirect = (accepted & F_INDIRECT) != 0;
    c->driver_feature_select = 0;
    c->driver_feature = accepted;
    c->driver_feature_select = 1;
    c->driver_feature = accepted >> 32;
    control[CTL_FEATURES] = accepted;
    control[CTL_FEATURES + 1] = accepted >> 32;
    c->status = 11;
    if (!(c->status & 8)) return FAULT_FEATURES;

    int interrupts = msix != 0 && (control[CTL_OPTIONS] & OPTION_INTERRUPTS);
    if (interrupts) {
        u32 table = pci_read(device, msix + 4);
        volatile u32 *entry = (volatile u32 *)map_device(5, bar_address(device, table & 7) + (table & ~7u));
        enable_apic();
        for (u32 i = 0; i < 8; i++, entry += 4) {
            entry[0] = LAPIC_GPA;
            entry[1] = 0;
            entry[2] = INTERRUPT_VECTOR;
            entry[3] = 0;
        }
        pci_write(device, msix, pci_read(device, msix) | 0x80000000u);
    }
    for (u32 i = 0; i < control[CTL_QUEUES]; i++) {
        c->queue_select = i;
        u32 size = c->queue_size;
        if (size == 0) return FAULT_QUEUE;
        place_queue(i, size);
        if (interrupts) c->queue_vector = 1 + i;
        c->desc_low = (u32)(u64)queues[i].desc;
        c->desc_high = 0;
        c->driver_low = (u32)(u64)queues[i].avail;
        c->driver_high = 0;
        c->device_low = (u32)(u64)queues[i].used;
        c->device_high = 0;
        queues[i].doorbell = (volatile u16 *)(notify_at + (u64)c->queue_notify_off * multiplier);
        c->queue_enable = 1;
    }
    c->status = 15;
    if (control[CTL_DEVICE] == DEVICE_BLOCK) {
        control[CTL_CAPACITY] = *(volatile u32 *)config_at;
        control[CTL_CAPACITY + 1] = *(volatile u32 *)(config_at + 4);
    }
    return 0;
}

/* Called in ring 0 by start; 0, or what went wrong. */
int setup(void) {
    while (control[CTL_SETUP] == 0);
    event_idx = control[CTL_OPTIONS] & OPTION_EVENT_IDX;
    indirect = control[CTL_OPTIONS] & OPTION_INDIRECT;
    int fault = 0;
    u32 doorbell = control[CTL_DOORBELL];
    if (doorbell == 0) {
        fault = set_up_pci();
    } else { /* the back-end in C: no PCI, the doorbells of all queues side by side */
        u64 at = map_device(1, doorbell);
        if (control[CTL_OPTIONS] & OPTION_INTERRUPTS) enable_apic();
        for (u32 i = 0; i < control[CTL_QUEUES]; i++) {
            place_queue(i, control[CTL_QUEUE_SIZE]);
            queues[i].doorbell = (volatile u16 *)(at + 4 * i);
        }
    }
    control[CTL_FAULT] = fault;
    control[CTL_QUEUE_SIZE] = queues[0].size;
    control[CTL_STATE] = fault ? STATE_FAILED : STATE_READY;
    return fault;
}

/* ---- ring 3 ---- */

static inline u64 now(void) {
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high) :: "memory");
    return (u64)high << 32 | low;
}

static inline void fence(void) { asm volatile("mfence" ::: "memory"); }
static inline void pause(void) { asm volatile("pause" ::: "memory"); }
static inline void barrier(void) { asm volatile("" ::: "memory"); }

/* Shows new entries to the device and notifies it if it wants that. */
static void publish(struct queue *q) {
    u16 old = q->told, new = q->next;
    if (old == new) return;
    barrier();
    q->avail->index = new;
    q->told = new;
    fence();
    int wanted = event_idx
        ? (u16)(new - *(volatile u16 *)&q->used->ring[q->size] - 1) < (u16)(new - old)
        : !(q->used->flags & USED_NO_NOTIFY);
    if (wanted) {
        kicks++;
        *q->doorbell = q->number;
    }
}

static inline void offer(struct queue *q, u16 head) {
    q->avail->ring[q->next & q->mask] = head;
    q->next++;
}

/* With interrupts on and event indices: asks for one when the entry after `last` has been used. */
static inline void want_interrupt(struct queue *q, u16 last) {
    if (event_idx) *(volatile u16 *)&q->avail->ring[q->size] = last;
}

struct job { u32 operation, depth, length, segments, count, blocks, flags, queues; };

static u32 seed = 0x2545f491;
static u64 cursor;

static u64 next_block(const struct job *job) {
    u32 blocks = job->length / BLOCK;
    if (job->flags & FLAG_RANDOM) {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        return ((u64)seed * (job->blocks / blocks) >> 32) * blocks;
    }
    u64 at = cursor;
    cursor = cursor + 2 * blocks <= job->blocks ? cursor + blocks : 0;
    return at;
}

static inline u8 *data_of(const struct job *job, u32 slot) { return (u8 *)DATA_GPA + (u64)slot * job->length; }

/* Describes a request in `slot` and puts it into the ring. A slot has its own descriptors. */
static void submit_block(struct queue *q, const struct job *job, u32 slot, u32 local) {
    struct block_request *r = &requests[slot];
    u64 block = next_block(job);
    u8 *data = data_of(job, slot);
    r->type = job->operation;
    r->sector = block * (BLOCK / SECTOR);
    r->block = block;
    r->status = 0xff;
    if (job->flags & FLAG_VERIFY) {
        for (u32 at = 0; at < job->length; at += BLOCK)
            *(u64 *)(data + at) = job->operation == OP_WRITE ? (block + at / BLOCK) | WRITTEN : ~0ul;
    }
    u32 per_chain = indirect ? 1 : job->segments + 2;
    u16 head = local * per_chain;
    struct desc *d = indirect ? r->table : &q->desc[head];
    u16 first = indirect ? 0 : head;
    u32 piece = job->length / job->segments;
    d[0] = (struct desc){ (u64)&r->type, 16, DESC_NEXT, first + 1 };
    u16 direction = job->operation == OP_READ ? DESC_WRITE : 0;
    for (u32 i = 0; i < job->segments; i++)
        d[1 + i] = (struct desc){ (u64)data + i * piece, piece, DESC_NEXT | direction, first + 2 + i };
    d[1 + job->segments] = (struct desc){ (u64)&r->status, 1, DESC_WRITE, 0 };
    if (indirect) q->desc[head] = (struct desc){ (u64)r->table, 16 * (job->segments + 2), DESC_INDIRECT, 0 };
    offer(q, head);
}

static u32 check_block(const struct job *job, u32 slot) {
    struct block_request *r = &requests[slot];
    if (*(volatile u8 *)&r->status != 0) return 1;
    if (!(job->flags & FLAG_VERIFY) || job->operation != OP_READ) return 0;
    for (u32 at = 0; at < job->length; at += BLOCK)
        if ((*(volatile u64 *)(data_of(job, slot) + at) & STAMP_MASK) != r->block + at / BLOCK) return 1;
    return 0;
}

/* Batches: all of `depth` requests are submitted, then all are waited for. A sample is a batch. */
static u32 run_batches(const struct job *job, u32 *errors) {
    u32 per_queue = job->depth / job->queues, taken = 0;
    for (u32 done = 0; done < job->count; done += job->depth) {
        u64 began = now();
        for (u32 n = 0; n < job->queues; n++) {
            struct queue *q = &queues[n];
            for (u32 i = 0; i < per_queue; i++) submit_block(q, job, n * per_queue + i, i);
            want_interrupt(q, q->next - 1);
            publish(q);
        }
        for (u32 n = 0; n < job->queues; n++) {
            struct queue *q = &queues[n];
            while (q->used->index != q->next) pause();
            q->seen = q->next;
        }
        u64 took = now() - began;
        if (taken < MAX_SAMPLES) samples[taken++] = took;
        for (u32 slot = 0; slot < job->depth; slot++) *errors += check_block(job, slot);
    }
    return taken;
}

/* `depth` requests are kept in flight: each one that is done is replaced. A sample is the time for `depth` of them. */
static u32 run_stream(const struct job *job, u32 *errors) {
    u32 per_queue = job->depth / job->queues, taken = 0, submitted = 0, done = 0;
    u32 per_chain = indirect ? 1 : job->segments + 2;
    u32 mark = job->depth;
    u64 began = now();
    for (u32 n = 0; n < job->queues; n++) {
        for (u32 i = 0; i < per_queue; i++, submitted++) submit_block(&queues[n], job, n * per_queue + i, i);
        want_interrupt(&queues[n], queues[n].seen);
        publish(&queues[n]);
    }
    while (done < job->count) {
        for (u32 n = 0; n < job->queues; n++) {
            struct queue *q = &queues[n];
            while (q->seen != q->used->index) {
                u32 local = q->used->ring[q->seen & q->mask].id / per_chain;
                q->seen++;
                done++;
                *errors += check_block(job, n * per_queue + local);
                if (submitted < job->count) {
                    submit_block(q, job, n * per_queue + local, local);
                    submitted++;
                }
            }
            want_interrupt(q, q->seen);
            publish(q);
        }
        if (done >= mark) {
            u64 at = now();
            if (taken < MAX_SAMPLES) samples[taken++] = (at - began) * job->depth / (done - mark + job->depth);
            began = at;
            mark = done + job->depth;
        }
        pause();
    }
    return taken;
}

static u8 *frame_of(u32 slot) { return (u8 *)DATA_GPA + slot * FRAME_STRIDE; }

/* An Ethernet frame to somebody else, of a type reserved for experiments, behind an empty virtio-net header. */
static void make_frame(u8 *at) {
    static const u8 head[14] = { 2, 0, 0, 0, 0xee, 1, 2, 0, 0, 0, 0xee, 2, 0x88, 0xb5 };
    for (u32 i = 0; i < NET_HEADER; i++) at[i] = 0;
    for (u32 i = 0; i < sizeof head; i++) at[NET_HEADER + i] = head[i];
}

/* Keeps at most `depth` frames of `length` bytes on their way. A sample is the time for `depth` frames. */
static u32 run_transmit(const struct job *job, u32 *errors) {
    struct queue *q = &queues[1];
    u32 taken = 0, submitted = 0, done = 0, mark = job->depth;
    for (u32 slot = 0; slot < job->depth; slot++) make_frame(frame_of(slot));
    u64 began = now();
    u16 slot_of_next = 0;
    while (done < job->count) {
        while (submitted < job->count && submitted - done < job->depth) {
            u16 slot = slot_of_next++ % job->depth;
            q->desc[slot] = (struct desc){ (u64)frame_of(slot), NET_HEADER + job->length, 0, 0 };
            offer(q, slot);
            submitted++;
        }
        want_interrupt(q, q->next - 1);
        publish(q);
        while (q->seen == q->used->index) pause();
        u16 got = q->used->index - q->seen;
        q->seen += got;
        done += got;
        if (done >= mark) {
            u64 at = now();
            if (taken < MAX_SAMPLES) samples[taken++] = (at - began) * job->depth / (done - mark + job->depth);
            began = at;
            mark = done + job->depth;
        }
    }
    (void)errors;
    return taken;
}

/* Takes `count` frames that wait already, with at most `depth` buffers; all buffers are used up at the end. */
static u32 run_receive(const struct job *job, u32 *errors) {
    struct queue *q = &queues[0];
    u32 taken = 0, posted = 0, done = 0, mark = job->depth;
    u64 began = now();
    for (; posted < job->depth && posted < job->count; posted++) {
        q->desc[posted] = (struct desc){ (u64)frame_of(posted), FRAME_STRIDE, DESC_WRITE, 0 };
        offer(q, posted);
    }
    want_interrupt(q, q->seen);
    publish(q);
    while (done < job->count) {
        if (q->seen == q->used->index) {
            pause();
            continue;
        }
        while (q->seen != q->used->index) {
            u16 slot = q->used->ring[q->seen & q->mask].id;
            if (q->used->ring[q->seen & q->mask].length != NET_HEADER + job->length) ++*errors;
            q->seen++;
            done++;
            if (posted < job->count) {
                q->desc[slot] = (struct desc){ (u64)frame_of(slot), FRAME_STRIDE, DESC_WRITE, 0 };
                offer(q, slot);
                posted++;
            }
        }
        want_interrupt(q, q->seen);
        publish(q);
        if (done >= mark) {
            u64 at = now();
            if (taken < MAX_SAMPLES) samples[taken++] = (at - began) * job->depth / (done - mark + job->depth);
            began = at;
            mark = done + job->depth;
        }
    }
    return taken;
}

/* ---- sockets ---- */

#define CID 3
#define GUEST_PORT 4000
#define ROOM 0x40000000
/* Packets from the host lie at DATA_GPA, those to it here. */
#define TX_GPA (DATA_GPA + 0x1800000)
/* Buffers for the host's words on credit while bytes go out: nothing longer comes then. */
#define WORDS 16
#define WORD_LENGTH 64

struct vsock_header { u64 src_cid, dst_cid; u32 src_port, dst_port, len; u16 type, op; u32 flags, buf_alloc, fwd_cnt; }
    __attribute__((packed));

/* The one connection: what the host has room for, what it has taken of that; bytes that went each way. */
static struct { u32 port, room, taken, sent, received; } stream;

static struct vsock_header *packet_at(u64 base, u32 slot, u32 length) {
    return (struct vsock_header *)(base + (u64)slot * ((VSOCK_HEADER + length + 63) & ~63u));
}

static void post_receive(u16 slot, u32 length) {
    struct queue *q = &queues[0];
    q->desc[slot] = (struct desc){ (u64)packet_at(DATA_GPA, slot, length), VSOCK_HEADER + length, DESC_WRITE, 0 };
    offer(q, slot);
}

static void send_packet(u16 slot, u16 op, u32 length, u32 stride) {
    struct queue *q = &queues[1];
    struct vsock_header *h = packet_at(TX_GPA, slot, stride);
    *h = (struct vsock_header){ CID, 2, GUEST_PORT, stream.port, length, 1, op, 0, ROOM, stream.received };
    q->desc[slot] = (struct desc){ (u64)h, VSOCK_HEADER + length, 0, 0 };
    offer(q, slot);
    stream.sent += length;
}

/* A control packet, taken by the device before this returns. */
static void say(u16 op) {
    struct queue *q = &queues[1];
    send_packet(0, op, 0, 0);
    publish(q);
    while (q->used->index != q->next) pause();
    q->seen = q->next;
}

/* The next packet of the host; 0 if there is none. */
static struct vsock_header *take_packet(u32 length, u16 *slot) {
    struct queue *q = &queues[0];
    if (q->seen == q->used->index) return 0;
    *slot = q->used->ring[q->seen++ & q->mask].id;
    struct vsock_header *h = packet_at(DATA_GPA, *slot, length);
    stream.room = h->buf_alloc;
    stream.taken = h->fwd_cnt;
    return h;
}

/* Opens the connection. */
static u32 run_open(const struct job *job, u32 *errors) {
    struct vsock_header *answer;
    u16 slot;
    stream.port = job->blocks;
    post_receive(0, WORD_LENGTH);
    publish(&queues[0]);
    say(VSOCK_REQUEST);
    while ((answer = take_packet(WORD_LENGTH, &slot)) == 0) pause();
    if (answer->op != VSOCK_RESPONSE) ++*errors;
    if (job->blocks == SINK_PORT) for (u16 i = 0; i < WORDS; i++) post_receive(i, WORD_LENGTH);
    publish(&queues[0]);
    return 0;
}

/*
 * Sends `count` times `length` bytes in packets of up to `length`, at most `depth` at a time and, as Linux does, no more than
 * the host has room for: a packet is shorter when less is left.
 */
static u32 run_stream_out(const struct job *job) {
    struct queue *q = &queues[1], *words = &queues[0];
    u64 total = (u64)job->count * job->length, put = 0, got = 0, step = (u64)job->depth * job->length, mark = step;
    u32 taken = 0, next = 0, flying = 0;
    u16 slot;
    u64 began = now();
    while (got < total) {
        while (take_packet(WORD_LENGTH, &slot) != 0) post_receive(slot, WORD_LENGTH);
        want_interrupt(words, words->seen);
        publish(words);
        while (put < total && flying < job->depth) {
            u32 length = job->length, room = stream.room - (stream.sent - stream.taken);
            if (room < length) length = room;
            if (total - put < length) length = total - put;
            if (length == 0) break;
            send_packet(next++ % job->depth, VSOCK_RW, length, job->length);
            put += length;
            flying++;
        }
        want_interrupt(q, q->next - 1);
        publish(q);
        if (q->seen == q->used->index) {
            pause();
            continue;
        }
        while (q->seen != q->used->index) {
            got += q->desc[q->used->ring[q->seen++ & q->mask].id].length - VSOCK_HEADER;
            flying--;
        }
        if (got >= mark) {
            u64 at = now();
            if (taken < MAX_SAMPLES) samples[taken++] = (at - began) * step / (got - mark + step);
            began = at;
            mark = got + step;
        }
    }
    return taken;
}

/* Takes `count` times `length` bytes that wait already; all buffers are used up at the end. */
static u32 run_stream_in(const struct job *job) {
    struct queue *q = &queues[0];
    u32 taken = 0, posted = 0;
    u64 total = (u64)job->count * job->length, got = 0, step = (u64)job->depth * job->length, mark = step;
    u64 began = now();
    for (; posted < job->depth && posted < job->count; posted++) post_receive(posted, job->length);
    want_interrupt(q, q->seen);
    publish(q);
    while (got < total) {
        struct vsock_header *h;
        u16 slot;
        while ((h = take_packet(job->length, &slot)) != 0) {
            posted--;
            if (h->op == VSOCK_RW) {
                got += h->len;
                stream.received += h->len;
            }
            if ((u64)posted * job->length < total - got) {
                post_receive(slot, job->length);
                posted++;
            }
        }
        want_interrupt(q, q->seen);
        publish(q);
        if (got >= mark) {
            u64 at = now();
            if (taken < MAX_SAMPLES) samples[taken++] = (at - began) * step / (got - mark + step);
            began = at;
            mark = got + step;
        } else pause();
    }
    say(VSOCK_CREDIT_UPDATE);
    return taken;
}

/* Ring 3: jobs for ever. */
void drive(void) {
    for (;;) {
        while (control[CTL_JOB] == control[CTL_DONE]) pause();
        fence();
        struct job job = {
            control[CTL_OPERATION], control[CTL_DEPTH], control[CTL_LENGTH], control[CTL_SEGMENTS], control[CTL_COUNT],
            control[CTL_BLOCKS], control[CTL_FLAGS], control[CTL_QUEUES_USED],
        };
        u32 errors = 0, taken;
        kicks = 0;
        cursor = 0;
        u64 began = now();
        if (job.operation == OP_TRANSMIT) taken = run_transmit(&job, &errors);
        else if (job.operation == OP_RECEIVE) taken = run_receive(&job, &errors);
        else if (job.operation == OP_STREAM_OPEN) taken = run_open(&job, &errors);
        else if (job.operation == OP_STREAM_OUT) taken = run_stream_out(&job);
        else if (job.operation == OP_STREAM_IN) taken = run_stream_in(&job);
        else if (job.flags & FLAG_STREAM) taken = run_stream(&job, &errors);
        else taken = run_batches(&job, &errors);
        u64 took = now() - began;
        control[CTL_ERRORS] = errors;
        control[CTL_SAMPLES] = taken;
        control[CTL_KICKS] = kicks;
        control[CTL_CYCLES] = took;
        control[CTL_CYCLES + 1] = took >> 32;
        control[CTL_PER_SAMPLE] = job.depth;
        fence();
        control[CTL_DONE] = control[CTL_JOB];
    }
}
