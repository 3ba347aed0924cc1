import assert from "node:assert/strict";
import { Errno, OsError } from "../abi/errno.ts";
import { close, O, open } from "./fd.ts";
import { read, write } from "./io.ts";
import {
  isTerminal,
  openPseudoTerminal,
  setTerminalMode,
  setWindowSize,
  terminalMode,
  windowSize,
} from "./pty.ts";

Deno.test("openPseudoTerminal() gives a raw terminal that reports a hang-up until it is opened", () => {
  const { masterFd, path } = openPseudoTerminal();
  const bytes = new Uint8Array(16);
  assert.equal(read(masterFd, bytes), -Errno.EIO);
  const slave = open(path, O.RDWR | O.NOCTTY);
  assert.equal(read(masterFd, bytes), -Errno.EAGAIN);
  write(masterFd, new TextEncoder().encode("a\x03\r"));
  assert.equal(read(slave, bytes), 3);
  assert.deepEqual([...bytes.subarray(0, 3)], [0x61, 3, 0x0d]);
  write(slave, new TextEncoder().encode("\n"));
  assert.equal(read(masterFd, bytes), 1);
  assert.equal(bytes[0], 0x0a);
  [slave, masterFd].forEach(close);
});

Deno.test("windowSize() of a master is what was set on the terminal", () => {
  const { masterFd } = openPseudoTerminal();
  setWindowSize(masterFd, 132, 43);
  assert.deepEqual(windowSize(masterFd), { columns: 132, rows: 43 });
  close(masterFd);
});

Deno.test("setTerminalMode() restores what terminalMode() gave", () => {
  const { masterFd } = openPseudoTerminal();
  const before = terminalMode(masterFd);
  const changed = before.slice();
  changed[0] ^= 1;
  setTerminalMode(masterFd, changed);
  assert.notDeepEqual(terminalMode(masterFd), before);
  setTerminalMode(masterFd, before);
  assert.deepEqual(terminalMode(masterFd), before);
  close(masterFd);
});

Deno.test("a file is no terminal", () => {
  const fd = open("/dev/null", O.RDWR);
  assert.equal(isTerminal(fd), false);
  assert.equal(windowSize(fd), undefined);
  assert.throws(() => terminalMode(fd), OsError);
  close(fd);
});
