import assert from "node:assert/strict";
import { close, memfd, truncate } from "@ffi/libc/fd.ts";
import { MAP, map, PROT, unmap, wrap } from "@ffi/libc/mmap.ts";
import { MappedRegion, type RegionFile } from "@vmm/memory/guest_memory.ts";
import { hostPages } from "./page_advisor.ts";

const PAGE = 4096;
const SIZE = 8 * PAGE;

function withRegion(
  flags: number,
  fd: number,
  file: RegionFile | undefined,
  use: (r: MappedRegion) => void,
): void {
  const address = map(SIZE, PROT.READ | PROT.WRITE, flags, fd);
  try {
    const region = new MappedRegion(0x10_0000, SIZE, wrap(address, SIZE), address, file);
    new Uint8Array(region.buffer).fill(0x5a);
    use(region);
  } finally {
    unmap(address, SIZE);
  }
}

const firstBytes = (region: MappedRegion): number[] =>
  Array.from({ length: SIZE / PAGE }, (_, page) => region.view.getUint8(page * PAGE));

Deno.test("release() empties pages of anonymous memory, and only those", () => {
  withRegion(MAP.PRIVATE | MAP.ANONYMOUS, -1, undefined, (region) => {
    assert.equal(hostPages.release(region, 2 * PAGE, 3 * PAGE), 0);
    assert.deepEqual(firstBytes(region), [0x5a, 0x5a, 0, 0, 0, 0x5a, 0x5a, 0x5a]);
    assert.equal(hostPages.want(region, 2 * PAGE, PAGE), 0);
  });
});

Deno.test("release() punches holes into the file of shared memory", () => {
  const fd = memfd("nephos-test");
  try {
    truncate(fd, SIZE);
    withRegion(MAP.SHARED, fd, { fd, offset: 0 }, (region) => {
      const before = Deno.statSync(`/proc/self/fd/${fd}`).blocks!;
      assert.equal(hostPages.release(region, 0, 4 * PAGE), 0);
      assert.equal(Deno.statSync(`/proc/self/fd/${fd}`).blocks, before / 2);
      assert.deepEqual(firstBytes(region), [0, 0, 0, 0, 0x5a, 0x5a, 0x5a, 0x5a]);
    });
  } finally {
    close(fd);
  }
});

Deno.test("release() says what the host refuses", () => {
  withRegion(MAP.PRIVATE | MAP.ANONYMOUS, -1, undefined, (region) => {
    assert.equal(hostPages.release(region, 1, PAGE), -22);
  });
});
