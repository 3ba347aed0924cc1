/*
 * What the guest, the back-end in C and the host agree on. The host reads the numbers from the #define lines below.
 *
 * The control words lie at CONTROL_GPA: 32-bit words, indices CTL_*. 64-bit values take two words, low half first.
 */
#ifndef IO_GUEST_H
#define IO_GUEST_H

#define CONTROL_GPA 0x400000
#define SAMPLES_GPA 0x500000
#define MAX_SAMPLES 65536
#define QUEUES_GPA 0x600000
#define QUEUE_STRIDE 0x10000
#define AVAIL_OFFSET 0x4000
#define USED_OFFSET 0x8000
#define MAX_QUEUES 4
#define REQUESTS_GPA 0x700000
#define DATA_GPA 0x1000000
#define RAM_BYTES 0x4000000

/* Host to guest, before CTL_SETUP becomes 1. */
#define CTL_SETUP 0
#define CTL_DEVICE 1
#define CTL_OPTIONS 2
#define CTL_QUEUES 3
#define CTL_DOORBELL 4
#define CTL_QUEUE_SIZE 5

/* Guest to host. */
#define CTL_STATE 8
#define CTL_FAULT 9
#define CTL_FEATURES 10
#define CTL_CAPACITY 12

/* A job: the host writes CTL_JOB last. */
#define CTL_JOB 16
#define CTL_OPERATION 17
#define CTL_DEPTH 18
#define CTL_LENGTH 19
#define CTL_SEGMENTS 20
#define CTL_COUNT 21
#define CTL_BLOCKS 22
#define CTL_FLAGS 23
#define CTL_QUEUES_USED 24

/* Its result: CTL_DONE becomes CTL_JOB. */
#define CTL_DONE 32
#define CTL_ERRORS 33
#define CTL_SAMPLES 34
#define CTL_KICKS 35
#define CTL_CYCLES 36
#define CTL_PER_SAMPLE 38

#define CONTROL_WORDS 64

#define DEVICE_BLOCK 2
#define DEVICE_NET 1
#define DEVICE_VSOCK 19

#define OPTION_EVENT_IDX 1
#define OPTION_INDIRECT 2
#define OPTION_INTERRUPTS 4

#define STATE_READY 1
#define STATE_FAILED 2

#define FAULT_NO_DEVICE 1
#define FAULT_NO_CAPABILITY 2
#define FAULT_FEATURES 3
#define FAULT_QUEUE 4

#define OP_READ 0
#define OP_WRITE 1
#define OP_TRANSMIT 2
#define OP_RECEIVE 3
#define OP_STREAM_OPEN 4
#define OP_STREAM_OUT 5
#define OP_STREAM_IN 6

/* Services of the host; OP_STREAM_OPEN has the port in CTL_BLOCKS. */
#define SINK_PORT 1000
#define SOURCE_PORT 1001

/* struct virtio_vsock_hdr; its operations. */
#define VSOCK_HEADER 44
#define VSOCK_REQUEST 1
#define VSOCK_RESPONSE 2
#define VSOCK_RW 5
#define VSOCK_CREDIT_UPDATE 6

/* Random blocks instead of one after the other. */
#define FLAG_RANDOM 1
/* Keep `depth` requests in flight instead of waiting for each batch of `depth`. */
#define FLAG_STREAM 2
/* Check, or set, the number each block of the disk begins with. */
#define FLAG_VERIFY 4

#define INTERRUPT_VECTOR 0x51
#define LAPIC_GPA 0xfee00000

#endif
