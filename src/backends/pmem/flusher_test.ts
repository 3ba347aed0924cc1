import assert from "node:assert/strict";
import { Errno } from "@ffi/abi/errno.ts";
import { close, memfd, O, open } from "@ffi/libc/fd.ts";
import { FLUSH_PENDING } from "@vmm/virtio/ports/flush.ts";
import { createFlusher } from "./flusher.ts";

/** Flushes a file a few times, closes it, returns the results. */
function flush(fd: number): number[] {
  const flusher = createFlusher(fd);
  try {
    return [1, 2, 3].map(() => {
      const result = flusher.start();
      return result === FLUSH_PENDING ? flusher.finish() : result;
    });
  } finally {
    flusher.close();
    close(fd);
  }
}

Deno.test("createFlusher() flushes files, and says what cannot be flushed", () => {
  assert.deepEqual(flush(memfd("nephos-test")), [0, 0, 0]);
  const refused = [-Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL];
  assert.deepEqual(flush(open("/dev/null", O.RDWR)), refused);
});
