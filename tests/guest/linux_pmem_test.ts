/** Persistent memory as a disk of a Linux guest. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { TempDisk } from "@tests/framework/images.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

const SIZE = 4 << 20;
const WRITTEN = 64 << 10;

linuxTest(
  "a Linux guest reads and writes persistent memory; writes to one that discards them vanish",
  async () => {
    await using kept = await TempDisk.pattern(SIZE);
    await using discarded = await TempDisk.pattern(SIZE);
    const original = await discarded.sha256();
    await using guest = await LinuxGuest.boot({
      config: { pmem: [{ file: kept.path }, { file: discarded.path, discard_writes: true }] },
      script: `
      section names; ls /dev | grep pmem; cat /sys/block/pmem0/size
      section read; sha256sum </dev/pmem0
      dd if=/dev/zero of=/dev/pmem0 bs=64k count=1 seek=2 conv=fsync 2>/dev/null || echo failed
      dd if=/dev/zero of=/dev/pmem1 bs=64k count=1 conv=fsync 2>/dev/null || echo failed
      section discarded; dd if=/dev/pmem1 bs=64k count=1 2>/dev/null | sha256sum
      section end`,
    });
    const { text, exit } = await guest.end();
    const part = sections(text);
    assert.equal(part.names, `pmem0\npmem1\n${SIZE / 512}\n`);
    assert.ok(part.read.startsWith(`${original}  -\n`), text);
    const zeros = new Uint8Array(WRITTEN);
    assert.equal(part.discarded, `${createHash("sha256").update(zeros).digest("hex")}  -\n`);
    assert.doesNotMatch(text, /failed/);
    assert.deepEqual(await kept.read(2 * WRITTEN, WRITTEN), zeros);
    assert.equal(await discarded.sha256(), original);
    assert.equal(exit.code, 0);
  },
);
