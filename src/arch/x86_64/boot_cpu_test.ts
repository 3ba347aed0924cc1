import assert from "node:assert/strict";
import { BOOT_MSRS, bootLvt, bootRegs, bootSregs, bootStructures } from "./boot_cpu.ts";

const hex = (bytes: Uint8Array) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

Deno.test("bootStructures() holds the EBDA segment, four descriptors and an empty IDT", () => {
  const [ebda, gdt, idt] = bootStructures();
  assert.deepEqual([ebda.gpa, hex(ebda.bytes)], [0x40e, "00a0"]);
  assert.deepEqual([gdt.gpa, hex(gdt.bytes)], [
    0x500,
    "0000000000000000" + "ffff0000009bcf00" + "ffff00000093cf00" + "67000000008b0000",
  ]);
  assert.deepEqual([idt.gpa, hex(idt.bytes)], [0x520, "0000000000000000"]);
});

Deno.test("bootSregs() is flat protected mode with paging off", () => {
  const sregs = bootSregs(false);
  assert.deepEqual(sregs.cs, {
    base: 0,
    limit: 0xffff_ffff,
    selector: 8,
    type: 11,
    present: 1,
    dpl: 0,
    db: 1,
    s: 1,
    l: 0,
    g: 1,
    avl: 0,
  });
  assert.equal(sregs.ss.selector, 16);
  assert.equal(sregs.ss.type, 3);
  assert.deepEqual(
    [sregs.tr.limit, sregs.tr.selector, sregs.tr.type, sregs.tr.s, sregs.tr.db, sregs.tr.g],
    [0x67, 24, 11, 0, 0, 0],
  );
  assert.deepEqual([sregs.gdt, sregs.idt], [{ base: 0x500, limit: 31 }, { base: 0x520, limit: 7 }]);
  assert.deepEqual([sregs.cr0, sregs.cr4, sregs.efer, sregs.apicBaseBits], [1, 0, 0, 0]);
  assert.equal(bootSregs(true).apicBaseBits, 0x400);
});

Deno.test("bootRegs() passes the start info in RBX or the zero page in RSI", () => {
  assert.deepEqual(bootRegs({ kind: "pvh", rip: 0x100_0000 }), {
    rip: 0x100_0000,
    rflags: 2,
    rbx: 0x6000,
    rsi: 0,
    rsp: 0,
  });
  assert.deepEqual(bootRegs({ kind: "linux32", rip: 0x10_0000 }), {
    rip: 0x10_0000,
    rflags: 2,
    rbx: 0,
    rsi: 0x7000,
    rsp: 0x8ff0,
  });
});

Deno.test("bootLvt() changes only the delivery mode", () => {
  assert.deepEqual(bootLvt(0x700, 0x1_0000), { lint0: 0x700, lint1: 0x1_0400 });
});

Deno.test("BOOT_MSRS enables fast strings and write-back default memory", () => {
  const values = new Map(BOOT_MSRS.map((msr) => [msr.index, msr.value]));
  assert.equal(values.size, 11);
  assert.equal(values.get(0x1a0), 1n);
  assert.equal(values.get(0x2ff), 0x806n);
});
