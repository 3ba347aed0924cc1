/**
 * Disk images for tests: made and judged by qemu-img, filled through our own disks.
 *
 * L4, tests only.
 */
import { addressOf } from "@ffi/libc/syscall.ts";
import { type Disk, IO_PENDING } from "@vmm/virtio/ports/disk.ts";
import type { DiskRequest } from "../open.ts";

/** True where qemu-img is installed; tests that need it say so where it is not. */
export const hasQemuImg = (() => {
  try {
    return new Deno.Command("qemu-img", { args: ["--version"], stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch {
    return false;
  }
})();

/** Runs qemu-img; its output. @throws Error with what it said when it fails */
export function qemuImg(...args: string[]): string {
  const { success, stdout, stderr } = new Deno.Command("qemu-img", { args }).outputSync();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (!success) throw new Error(`qemu-img ${args.join(" ")}: ${decode(stderr)}${decode(stdout)}`);
  return decode(stdout);
}

/** Result of `qemu-img check`: it must find neither errors nor, unless `leaksAllowed`, leaks. */
export function checkImage(path: string, leaksAllowed = false): void {
  const { code, stdout, stderr } = new Deno.Command("qemu-img", { args: ["check", "-U", path] }).outputSync();
  const leaked = 3;
  if (code === 0 || (code === leaked && leaksAllowed)) return;
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  throw new Error(`qemu-img check: code ${code}\n${decode(stdout)}${decode(stderr)}`);
}

/** A configuration for `openDisk`. */
export function diskRequest(path: string, change: Partial<DiskRequest> = {}): DiskRequest {
  return {
    path,
    readonly: false,
    direct: false,
    sparse: true,
    backing_files: false,
    image_type: "Unknown",
    disable_io_uring: false,
    lock_granularity: "ByteRange",
    ...change,
  };
}

/** Runs `body` with a directory that is gone afterwards; in memory, where syncs cost nothing, if that can be had. */
export async function withDirectory(
  body: (directory: string) => void | Promise<void>,
  inMemory = false,
): Promise<void> {
  const directory = await Deno.makeTempDir({
    dir: inMemory && hasSharedMemory() ? SHARED_MEMORY : undefined,
  });
  try {
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const SHARED_MEMORY = "/dev/shm";
function hasSharedMemory(): boolean {
  try {
    return Deno.statSync(SHARED_MEMORY).isDirectory;
  } catch {
    return false;
  }
}

/** An iovec list over buffers, which the caller keeps referenced. */
export function iovecOf(parts: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(16 * parts.length));
  parts.forEach((part, i) => {
    view.setBigUint64(16 * i, addressOf(part), true);
    view.setBigUint64(16 * i + 8, BigInt(part.byteLength), true);
  });
  return new Uint8Array(view.buffer);
}

/** Writes through a disk. @throws Error unless all of it was written */
export function writeDisk(disk: Disk, offset: number, ...parts: Uint8Array<ArrayBuffer>[]): void {
  const total = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const result = waitFor(disk, disk.write(0, iovecOf(parts), parts.length, total, offset));
  if (result !== total) throw new Error(`write of ${total} bytes at ${offset}: ${result}`);
}

/** Reads through a disk. @throws Error unless all of it was read */
export function readDisk(disk: Disk, offset: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
  // Two pieces, and old contents that must not be left over.
  const first = new Uint8Array(lengthBytes >> 1).fill(0x5a);
  const second = new Uint8Array(lengthBytes - first.byteLength).fill(0xa5);
  const result = waitFor(disk, disk.read(0, iovecOf([first, second]), 2, lengthBytes, offset));
  if (result !== lengthBytes) throw new Error(`read of ${lengthBytes} bytes at ${offset}: ${result}`);
  const all = new Uint8Array(lengthBytes);
  all.set(first);
  all.set(second, first.byteLength);
  return all;
}

/** The final result of an operation that may have been left pending. */
export function waitFor(disk: Disk, result: number): number {
  let final = result;
  // A drain writes metadata as well: only where it is needed.
  if (result !== IO_PENDING) return result;
  disk.submit();
  disk.drain((_token, later) => final = later);
  return final;
}

/** Bytes that differ from place to place and from seed to seed. */
export function pattern(lengthBytes: number, seed: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(lengthBytes / 4));
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, lengthBytes);
}

/** xorshift32: the same sequence in every run; numbers from 0 to `below` − 1. */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
