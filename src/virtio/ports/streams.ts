/**
 * What a socket device's queue handler needs from the host: byte streams, and where they come from.
 *
 * L3, I/O Worker. Back-ends implement it, the handler uses it, and neither imports the other.
 */

/**
 * A connected stream. `iov` holds `count` entries of 16 bytes (host address, length). Results are bytes or `-errno`; nothing
 * blocks and nothing throws.
 */
export interface HostStream {
  /** For watching: readable when bytes or the end wait, writable when bytes can be sent, hung up when the peer is gone. */
  readonly fd: number;
  /** Takes waiting bytes; 0 at the end of what the peer sends. */
  receive(iov: Uint8Array<ArrayBuffer>, count: number): number;
  /** As `receive`, into a buffer of ours; with `peek` the bytes stay. */
  receiveBytes(target: Uint8Array<ArrayBuffer>, peek: boolean): number;
  send(iov: Uint8Array<ArrayBuffer>, count: number): number;
  sendBytes(bytes: Uint8Array<ArrayBuffer>): number;
  /** The peer reads an end behind what was sent. */
  endSending(): void;
  /** Ends the stream. Nobody watches it any more. */
  close(): void;
}

/** The host's side of a guest's sockets. */
export interface StreamHost {
  /** Readable when a connection waits for `accept`. */
  readonly listenFd: number;
  /** A connection from the host, or `-errno` (`-EAGAIN`: none waits). */
  accept(): HostStream | number;
  /** A connection to the service behind host port `port`, or `-errno`; `-EAGAIN` when it is too busy just now. */
  connect(port: number): HostStream | number;
}
