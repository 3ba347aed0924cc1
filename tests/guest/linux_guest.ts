/**
 * A Linux guest that runs a script on a console of mode Pty, so that test and script can talk: the script prints marks and
 * reads lines. One script answers many questions: starting a command costs far less than typing one.
 *
 * @module
 */

import { join } from "node:path";
import { BOOT_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import {
  addToInitramfs,
  END_MARKER,
  guestFiles,
  kernelCommandLine,
  UP_MARKER,
} from "@tests/framework/guest.ts";
import type { ProgramName } from "@tests/framework/programs.ts";
import { Pty } from "@tests/framework/pty.ts";
import { type Exit, Vm } from "@tests/framework/vm.ts";
import { PROGRAM } from "./subject.ts";

/** Long enough for some dozens of commands where ring 0 is emulated. */
const SCRIPT_TIMEOUT_MS = 600_000;
const SECTION_MARK = "=== ";

/**
 * Put before every script: the kernel is silent from here on; `section NAME` begins a part of the output,
 * `wait_for WORD` waits until the test says so.
 */
const PREAMBLE = `
stty -echo
echo 1 >/proc/sys/kernel/printk
section() { echo "${SECTION_MARK}$1"; }
wait_for() { echo "waiting for $1"; while read -r word && [ "$word" != "$1" ]; do :; done; }
`;

/** What to boot. */
export interface LinuxOptions {
  program?: ProgramName;
  /** Shell text; the guest powers off when it ends. Without it, shells wait on the consoles. */
  script?: string;
  /** Put over the VM's configuration. */
  config?: Record<string, unknown>;
  /** Appended to the kernel command line. */
  cmdline?: string;
  /** Further files for the initramfs. */
  files?: Record<string, string | Uint8Array>;
  /** Which console the script is on; default `hvc0`. */
  console?: "hvc0" | "ttyS0";
  netns?: string;
  /** Further options of the program. */
  args?: string[];
}

/** A booted guest. */
export class LinuxGuest implements AsyncDisposable {
  private constructor(readonly vm: Vm, readonly pty: Pty) {}

  /** Creates and boots the VM by REST; does not wait for the guest to come up. */
  static async boot(options: LinuxOptions = {}): Promise<LinuxGuest> {
    const { program = PROGRAM, script, config, cmdline, files, console: name = "hvc0" } = options;
    const found = await guestFiles();
    const vm = await Vm.start({ program, events: true, netns: options.netns, args: options.args });
    try {
      const extra = { ...files, ...(script === undefined ? {} : { "scripts/test": PREAMBLE + script }) };
      await vm.api.mustPut("vm.create", {
        payload: {
          kernel: found.vmlinux,
          initramfs: await addToInitramfs(found.initramfs, extra, vm.directory),
          cmdline: kernelCommandLine(name, script === undefined ? undefined : "test", cmdline),
        },
        memory: { size: 128 << 20 },
        serial: { mode: name === "ttyS0" ? "Pty" : "Off" },
        console: { mode: name === "hvc0" ? "Pty" : "Off" },
        ...config,
      });
      await vm.api.mustPut("vm.boot");
      const info = await vm.api.info();
      return new LinuxGuest(vm, await Pty.open(info.config[name === "hvc0" ? "console" : "serial"].file));
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Waits for text the guest writes, from where the last wait ended; returns what came up to its end. */
  async until(pattern: string | RegExp, timeoutMs = SCRIPT_TIMEOUT_MS): Promise<string> {
    try {
      return await this.pty.expect(pattern, timeoutMs);
    } catch (error) {
      const { message } = error as Error;
      throw new Error(
        `${message}\nThe VMM's standard error ended with:\n${this.vm.stderr.text.slice(-2000)}`,
      );
    }
  }

  /** Waits until user space runs. */
  async up(): Promise<void> {
    await this.until(`${UP_MARKER}\n`, BOOT_TIMEOUT_MS);
  }

  /** Waits until the script waits for `word`, lets `act` happen, says the word. @returns what was written before */
  async at<T>(word: string, act: () => Promise<T>): Promise<{ text: string; result: T }> {
    const text = await this.until(`waiting for ${word}\n`);
    const result = await act();
    await this.pty.send(`${word}\n`);
    return { text, result };
  }

  /** Waits for the end of the script and of the VMM. @returns the script's exit code and how the VMM ended */
  async end(): Promise<{ text: string; code: number; exit: Exit }> {
    const text = await this.until(END_MARKER);
    const exit = await this.vm.waitForExit(BOOT_TIMEOUT_MS);
    return { text, code: Number(END_MARKER.exec(text)![1]), exit };
  }

  /** Path of a file in the VM's directory, which goes away with it. */
  path(name: string): string {
    return join(this.vm.directory, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pty[Symbol.asyncDispose]();
    await this.vm[Symbol.asyncDispose]();
  }
}

/** The sections of a script's output, by name, without what came before the first. */
export function sections(text: string): Record<string, string> {
  const parts = text.split(SECTION_MARK).slice(1).map((part) => {
    const end = part.indexOf("\n");
    return [part.slice(0, end), part.slice(end + 1)];
  });
  return Object.fromEntries(parts);
}
