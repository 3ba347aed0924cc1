/**
 * Gives guest pages back to the host.
 *
 * L4, I/O Worker. Anonymous and private memory is dropped from the address space; memory shared with a file also leaves the
 * file, by a hole. Source: madvise(2), fallocate(2).
 */
import { FALLOC, fallocate } from "@ffi/libc/fd.ts";
import { advise, MADV } from "@ffi/libc/mmap.ts";
import type { MappedRegion } from "@vmm/memory/guest_memory.ts";
import type { PageAdvisor } from "@vmm/virtio/ports/memory.ts";

/** The host's memory management. */
export const hostPages: PageAdvisor = {
  release({ file, hostBase }, offset, lengthBytes) {
    if (file !== undefined) {
      const mode = FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE;
      const result = fallocate(file.fd, mode, file.offset + offset, lengthBytes);
      if (result < 0) return result;
    }
    return advise(BigInt(hostBase + offset), lengthBytes, MADV.DONTNEED);
  },
  want: ({ hostBase }: MappedRegion, offset, lengthBytes) =>
    advise(BigInt(hostBase + offset), lengthBytes, MADV.WILLNEED),
};
