import assert from "node:assert/strict";
import { programText } from "./resident.ts";

const MAPS = `1000-2000 r--p 00000000 fe:00 7                                  /usr/bin/vmm
2000-5000 r-xp 00001000 fe:00 7                                  /usr/bin/vmm
5000-6000 r--p 00004000 fe:00 7                                  /usr/bin/vmm
6000-7000 rw-p 00005000 fe:00 7                                  /usr/bin/vmm
8000-9000 r-xp 00001000 fe:00 7                                  /usr/bin/vmm
9000-a000 r-xp 00000000 fe:00 9                                  /lib/libc.so.6
b000-c000 rw-p 00000000 00:00 0
`;

Deno.test("programText() ends with the first executable mapping: behind it lies what relocation wrote", () => {
  assert.deepEqual(programText(MAPS, "/usr/bin/vmm"), [
    { start: 0x1000n, end: 0x2000n },
    { start: 0x2000n, end: 0x5000n },
  ]);
});

Deno.test("programText() finds nothing where the layout is another, or the program is", () => {
  assert.deepEqual(programText(MAPS.replace("r--p", "rw-p"), "/usr/bin/vmm"), []);
  assert.deepEqual(programText(MAPS, "/usr/bin/other"), []);
  assert.deepEqual(programText(MAPS.replaceAll("r-xp", "r--p"), "/usr/bin/vmm"), []);
});
