/**
 * What a network device's queue handler needs from one queue of a host interface.
 *
 * L3, I/O Worker. Back-ends implement it, the net handler uses it, and neither imports the other.
 */

/**
 * One queue of a tap. Packets carry a virtio-net header of 12 bytes in front. `iov` holds `count` entries of 16 bytes (host
 * address, length). Results are bytes, header included, or `-errno`; nothing blocks and nothing throws.
 */
export interface PacketPort {
  /** Becomes readable when packets wait, writable when one can be sent. */
  readonly fd: number;
  /** Takes the next packet; what does not fit the memory given is lost. `-EAGAIN` when none waits. */
  receive(iov: Uint8Array<ArrayBuffer>, count: number): number;
  /** Sends a packet; `-EAGAIN` when the host's queue is full. */
  send(iov: Uint8Array<ArrayBuffer>, count: number): number;
  /** Sends a packet of our own: header and frame. */
  sendFrame(packet: Uint8Array<ArrayBuffer>): number;
  /** Tells the host what the receiver can do (`TUN_F_*`); 0 or `-errno`. */
  setOffload(flags: number): number;
  /** Lets the host use this queue, or keeps it from doing so; 0 or `-errno`. */
  setEnabled(on: boolean): number;
}
