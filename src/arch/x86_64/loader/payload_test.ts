import assert from "node:assert/strict";
import type { GuestBlob } from "@vmm/arch/x86_64/boot_cpu.ts";
import { ArchError } from "@vmm/arch/x86_64/errors.ts";
import { GIB, MIB, planMemory } from "@vmm/arch/x86_64/layout.ts";
import { bytesAsFile, type KernelFile } from "./kernel_file.ts";
import { type PayloadRequest, placeInitramfs, planPayload } from "./payload.ts";
import {
  CODE_OFFSET,
  defaultSegments,
  LOAD_ADDRESS,
  NOTE_OFFSET,
  tinyBzImage,
  tinyElf,
  xenNote,
} from "./testing/tiny_kernels.ts";

const memoryOf = (sizeBytes: number) => planMemory({ zones: [{ id: "mem0", sizeBytes }], physBits: 46 });
const plan = (kernel: Uint8Array, more: Partial<PayloadRequest> = {}) =>
  planPayload({ kernel: bytesAsFile(kernel), memory: memoryOf(128 * MIB), rsdpGpa: 0xa_0000, ...more });
const blobAt = (blobs: readonly GuestBlob[], gpa: number) => {
  const found = blobs.find((blob) => blob.gpa === gpa);
  assert.ok(found, `nothing at 0x${gpa.toString(16)}`);
  return new DataView(found.bytes.buffer, found.bytes.byteOffset, found.bytes.byteLength);
};
const chainOf = (run: () => unknown): readonly string[] => {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ArchError, String(error));
    return error.chain();
  }
  return assert.fail("accepted");
};
const BZIMAGE = "Kernel Loader: failed to load bzImage kernel image: ";
const invalid = [
  "Cannot load the kernel into memory",
  BZIMAGE + "Kernel Loader: Invalid bzImage",
  "Kernel Loader: Invalid bzImage",
];

Deno.test("planPayload() loads an ELF kernel at its physical addresses and enters it by PVH", () => {
  const [code, note] = defaultSegments();
  const result = plan(tinyElf({ segments: [{ ...code, memsz: 0x5000 }, note] }));
  assert.deepEqual(result.entry, { kind: "pvh", rip: LOAD_ADDRESS });
  assert.deepEqual(result.segments, [{
    source: "kernel",
    gpa: LOAD_ADDRESS,
    fileOffset: CODE_OFFSET,
    lengthBytes: 3,
    zeroTailBytes: 0x4ffd,
  }]);
  const info = blobAt(result.blobs, 0x6000);
  assert.equal(info.byteLength, 56);
  assert.deepEqual([0, 4, 8, 12].map((at) => info.getUint32(at, true)), [0x336e_c578, 1, 0, 0]);
  assert.deepEqual([16, 24, 32, 40].map((at) => info.getBigUint64(at, true)), [
    0n,
    0x2_0000n,
    0xa_0000n,
    0x7000n,
  ]);
  assert.equal(info.getUint32(48, true), 3);
  assert.equal(blobAt(result.blobs, 0x2_0000).byteLength, 1);
});

Deno.test("planPayload() lists RAM below 640 KiB, above 1 MiB and above 4 GiB, then ECAM", () => {
  const result = plan(tinyElf(), { memory: memoryOf(5 * GIB) });
  assert.deepEqual(result.memoryMap.map((entry) => [entry.gpa, entry.sizeBytes, entry.type]), [
    [0, 0xa_0000, 1],
    [0x10_0000, 0xbff0_0000, 1],
    [0x1_0000_0000, 2 * GIB, 1],
    [0xe800_0000, 0x1000_0000, 2],
  ]);
  const table = blobAt(result.blobs, 0x7000);
  assert.equal(table.byteLength, 4 * 24);
  assert.equal(table.getBigUint64(48, true), 0x1_0000_0000n);
});

Deno.test("planPayload() joins zones in the memory map and lets a segment span them", () => {
  const memory = planMemory({
    zones: [{ id: "a", sizeBytes: 16 * MIB }, { id: "b", sizeBytes: 16 * MIB }],
    physBits: 46,
  });
  const [code, note] = defaultSegments();
  const result = plan(tinyElf({ segments: [{ ...code, paddr: 0xff_f000, memsz: 0x2000 }, note] }), {
    memory,
  });
  assert.equal(result.memoryMap.length, 3);
});

Deno.test("planPayload() gives the initramfs as module, at a page below the end of low RAM", () => {
  const result = plan(tinyElf(), { initramfs: { sizeBytes: 1_984_512 }, cmdline: "console=ttyS0" });
  assert.deepEqual(result.initramfs, { gpa: 0x7e1_b000, sizeBytes: 1_984_512 });
  assert.deepEqual(result.segments[1], {
    source: "initramfs",
    gpa: 0x7e1_b000,
    fileOffset: 0,
    lengthBytes: 1_984_512,
    zeroTailBytes: 0,
  });
  const info = blobAt(result.blobs, 0x6000);
  assert.deepEqual([info.getUint32(12, true), info.getBigUint64(16, true)], [1, 0x6040n]);
  const module = blobAt(result.blobs, 0x6040);
  assert.deepEqual([0, 8, 16, 24].map((at) => module.getBigUint64(at, true)), [
    0x7e1_b000n,
    1_984_512n,
    0n,
    0n,
  ]);
});

Deno.test("planPayload() fills the zero page of a bzImage", () => {
  const result = plan(tinyBzImage(), { initramfs: { sizeBytes: 4097 }, cmdline: "quiet" });
  assert.deepEqual(result.entry, { kind: "linux32", rip: 0x10_0000 });
  assert.deepEqual([result.segments[0].gpa, result.segments[0].fileOffset], [0x10_0000, 1024]);
  const page = blobAt(result.blobs, 0x7000);
  assert.equal(page.byteLength, 4096);
  assert.equal(page.getUint8(0x1f1), 1);
  assert.equal(page.getUint32(0x202, true), 0x5372_6448);
  assert.equal(page.getUint8(0x210), 0xff);
  assert.deepEqual([page.getUint32(0x228, true), page.getUint32(0x238, true)], [0x2_0000, 0x1_0000]);
  assert.deepEqual([page.getUint32(0x218, true), page.getUint32(0x21c, true)], [0x7ff_e000, 4097]);
  assert.equal(page.getBigUint64(0x70, true), 0xa_0000n);
  assert.equal(page.getUint8(0x1e8), 3);
  assert.deepEqual([page.getBigUint64(0x2e4, true), page.getUint32(0x2f4, true)], [0x10_0000n, 1]);
  assert.equal(new TextDecoder().decode(blobAt(result.blobs, 0x2_0000)), "quiet\0");
});

Deno.test("planPayload() keeps a type_of_loader the kernel came with", () => {
  const kernel = tinyBzImage();
  kernel[0x210] = 0x42;
  assert.equal(blobAt(plan(kernel).blobs, 0x7000).getUint8(0x210), 0x42);
});

Deno.test("planPayload() takes an old bzImage without init_size", () => {
  assert.equal(plan(tinyBzImage({ version: 0x205, initSize: 0x7fff_ffff })).entry.kind, "linux32");
});

Deno.test("planPayload() says that a kernel lacks the PVH note", () => {
  const [code] = defaultSegments();
  assert.deepEqual(chainOf(() => plan(tinyElf({ segments: [code] }))), ["Kernel lacks PVH header"]);
  for (
    const note of [
      xenNote(LOAD_ADDRESS, 17),
      xenNote(LOAD_ADDRESS, 18, "Gnu\0"),
      new Uint8Array([0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ]
  ) {
    assert.deepEqual(chainOf(() => plan(tinyElf({ note }))), ["Kernel lacks PVH header"]);
  }
});

Deno.test("planPayload() finds the PVH note behind others", () => {
  const other = xenNote(1, 6);
  const note = new Uint8Array([...other, ...xenNote(LOAD_ADDRESS)]);
  const [code, noteSegment] = defaultSegments();
  const kernel = tinyElf({ note, segments: [code, { ...noteSegment, filesz: note.length }] });
  assert.equal(plan(kernel).entry.rip, LOAD_ADDRESS);
});

Deno.test("planPayload() calls a file that is neither kind an invalid bzImage", () => {
  for (const kernel of [new Uint8Array(0), new TextEncoder().encode("hello world".repeat(100))]) {
    assert.deepEqual(chainOf(() => plan(kernel)), invalid);
  }
  assert.deepEqual(chainOf(() => plan(tinyBzImage({ loadflags: 0 }))), invalid);
  assert.deepEqual(chainOf(() => plan(tinyBzImage({ version: 0x1ff }))), invalid);
});

Deno.test("planPayload() names what is truncated in an ELF kernel", () => {
  const kernel = tinyElf();
  const detail = (length: number) => {
    const chain = chainOf(() => plan(kernel.subarray(0, length)));
    assert.deepEqual(chain.slice(0, 3), invalid);
    return chain[3];
  };
  assert.match(detail(4), /^ELF header is truncated: it needs bytes 0 to 64 of a file of 4$/);
  assert.match(detail(40), /^ELF header is truncated/);
  assert.match(detail(100), /^ELF program header table is truncated/);
  assert.match(detail(NOTE_OFFSET + 5), /^ELF segment 0 is truncated/);
  assert.match(detail(CODE_OFFSET + 1), /^ELF segment 0 is truncated/);
});

Deno.test("planPayload() refuses an ELF that is not what it can run", () => {
  const detail = (kernel: Uint8Array) => chainOf(() => plan(kernel))[3];
  const patched = (at: number, ...bytes: number[]) => {
    const kernel = tinyElf();
    kernel.set(bytes, at);
    return kernel;
  };
  assert.match(detail(patched(4, 1)), /not 64-bit little-endian/);
  assert.match(detail(patched(5, 2)), /not 64-bit little-endian/);
  assert.match(detail(patched(54, 32, 0)), /program headers are not 56 bytes/);
  assert.match(detail(patched(32, 0, 0, 0, 0, 0, 0, 0, 0)), /program headers lie/);
  assert.match(detail(patched(32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), /program headers lie/);
  assert.match(detail(patched(56, 0xff, 0xff)), /program header table is truncated/);
  assert.match(detail(tinyElf({ entry: 0x8_0000 })), /entry point 0x80000 is below 1 MiB/);
  const [code, note] = defaultSegments();
  assert.match(detail(tinyElf({ segments: [note] })), /no loadable segment/);
  assert.match(detail(tinyElf({ segments: [{ ...code, memsz: 1 }, note] })), /impossible size/);
});

Deno.test("planPayload() refuses segments outside RAM or over the boot structures", () => {
  const [code, note] = defaultSegments();
  const at = (paddr: number, memsz = 3) =>
    chainOf(() => plan(tinyElf({ segments: [code, { ...code, paddr, memsz }, note] })))[3];
  assert.match(at(0x4000_0000), /^ELF segment at 0x40000000 to 0x40000003 is not guest RAM$/);
  assert.match(at(0x7ff_f000, 0x1001), /is not guest RAM$/);
  assert.match(at(2 ** 60), /impossible size or address/);
  for (const paddr of [0, 0x40d, 0x500, 0x6000, 0x7ffd, 0x8ff0, 0x2_0000, 0x9_fffe, 0xf_0000]) {
    assert.match(at(paddr), /overlaps the boot structures/, paddr.toString(16));
  }
  assert.equal(plan(tinyElf({ segments: [code, { ...code, paddr: 0x9000 }, note] })).segments.length, 2);
});

Deno.test("planPayload() refuses a PVH entry outside the kernel", () => {
  const chain = chainOf(() => plan(tinyElf({ note: xenNote(0xf000_0000) })));
  assert.match(chain[3], /^PVH entry point 0xf0000000 is in none/);
});

Deno.test("planPayload() refuses a bzImage that is truncated or does not fit", () => {
  const underflow = "Kernel Loader: Underflow occurred during an arithmetic operation";
  assert.deepEqual(chainOf(() => plan(tinyBzImage().subarray(0, 600))).slice(0, 3), [
    "Cannot load the kernel into memory",
    BZIMAGE + underflow,
    underflow,
  ]);
  const noSects = tinyBzImage();
  noSects[0x1f1] = 0; // means 4
  assert.equal(chainOf(() => plan(noSects))[2], underflow);
  const large: KernelFile = { ...bytesAsFile(tinyBzImage()), sizeBytes: 140 * MIB };
  const doesNotFit = "Kernel Loader: Unable to read bzImage compressed kernel";
  assert.equal(chainOf(() => plan(new Uint8Array(0), { kernel: large }))[2], doesNotFit);
  assert.equal(chainOf(() => plan(tinyBzImage({ initSize: 0x7fff_ffff })))[2], doesNotFit);
});

Deno.test("planPayload() reports what the host says when a kernel cannot be read", () => {
  const kernel: KernelFile = {
    sizeBytes: 4096,
    readAt: () => {
      throw new Error("Is a directory (os error 21)");
    },
  };
  assert.deepEqual(chainOf(() => plan(new Uint8Array(0), { kernel })).slice(2), [
    "Kernel Loader: Unable to read bzImage header",
    "Is a directory (os error 21)",
  ]);
});

Deno.test("planPayload() refuses an initramfs that does not fit, and takes an empty one", () => {
  const head = ["Cannot determine initramfs load address", "Failed to compute initramfs address"];
  const chain = (sizeBytes: number, kernel = tinyElf()) =>
    chainOf(() => plan(kernel, { initramfs: { sizeBytes } }));
  assert.deepEqual(chain(200 * MIB).slice(0, 2), head);
  assert.match(chain(200 * MIB)[2], /larger than the first RAM region/);
  assert.match(chain(128 * MIB)[2], /overlaps the boot structures/);
  assert.match(chain(112 * MIB)[2], /overlaps the kernel, which uses 0x1000000 to 0x1000003$/);
  assert.match(chain(100 * MIB, tinyBzImage())[2], /overlaps the kernel, which uses 0x1000000 to 0x2000000$/);
  assert.deepEqual(placeInitramfs(0, memoryOf(128 * MIB)), { gpa: 0x800_0000, sizeBytes: 0 });
});

Deno.test("planPayload() accepts printable ASCII of at most 65,535 characters as command line", () => {
  const head = "Cannot modify the kernel command line";
  assert.equal(blobAt(plan(tinyElf(), { cmdline: "x".repeat(65_535) }).blobs, 0x2_0000).byteLength, 0x1_0000);
  assert.deepEqual(chainOf(() => plan(tinyElf(), { cmdline: "x".repeat(65_536) })), [
    head,
    "Inserting string would make command line too long.",
  ]);
  for (const cmdline of ["é", "a\tb", "a\0b", "a\n"]) {
    assert.deepEqual(chainOf(() => plan(tinyElf(), { cmdline })), [
      head,
      "String contains a non-printable ASCII character.",
    ]);
  }
});

Deno.test("planPayload() refuses RAM that does not reach beyond 1 MiB", () => {
  const [code, note] = defaultSegments();
  const kernel = tinyElf({
    note: xenNote(0x9000),
    segments: [{ ...code, paddr: 0x9000 }, note],
  });
  assert.deepEqual(chainOf(() => plan(kernel, { memory: memoryOf(MIB) })), [
    "Cannot configure system",
    "Error generating memory map table",
  ]);
});

Deno.test("planPayload() survives every truncation and byte flip of a kernel's headers", () => {
  for (const kernel of [tinyElf(), tinyBzImage()]) {
    for (let at = 0; at < 0x420; at += kernel.length > 0x1000 ? 3 : 1) {
      for (const value of [0, 0x7f, 0x80, 0xff]) {
        const flipped = kernel.slice();
        flipped[at] = value;
        for (const file of value === 0 ? [flipped, kernel.subarray(0, at)] : [flipped]) {
          try {
            plan(file, { initramfs: { sizeBytes: 4096 } });
          } catch (error) {
            assert.ok(error instanceof ArchError, String(error));
          }
        }
      }
    }
  }
});
