/**
 * A shell in a Linux guest, on the console of a VM made by REST. Typing is slow where ring 0 is emulated: a script
 * (`linux_guest.ts`) answers many questions in less time.
 *
 * @module
 */

import { join } from "node:path";
import { BOOT_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import { addToInitramfs, guestFiles, kernelCommandLine } from "@tests/framework/guest.ts";
import type { ProgramName } from "@tests/framework/programs.ts";
import { Pty } from "@tests/framework/pty.ts";
import { Vm } from "@tests/framework/vm.ts";
import { PROGRAM } from "./subject.ts";

/** Commands in an emulated guest are slow, not hung. */
const COMMAND_TIMEOUT_MS = 120_000;

/** What to boot. */
export interface ShellOptions {
  program?: ProgramName;
  /** Put over the VM's configuration. */
  config?: Record<string, unknown>;
  /** Appended to the kernel command line. */
  cmdline?: string;
  /** Further files for the initramfs. */
  files?: Record<string, string | Uint8Array>;
  /** Default `vmlinux`. */
  kernel?: "vmlinux" | "bzImage";
  /** Which console the shell is on; the other is off unless `config` says otherwise. */
  console?: "hvc0" | "ttyS0";
  netns?: string;
  /** Further options of the program. */
  args?: string[];
}

/** A booted guest with a shell. */
export class LinuxShell implements AsyncDisposable {
  #commands = 0;

  private constructor(readonly vm: Vm, readonly pty: Pty, readonly options: ShellOptions) {}

  /** Creates and boots the VM; returns when the shell waits for commands. */
  static async boot(options: ShellOptions = {}): Promise<LinuxShell> {
    const { program = PROGRAM, config, cmdline, files = {}, kernel = "vmlinux", console: name = "hvc0" } =
      options;
    const found = await guestFiles();
    const vm = await Vm.start({ program, events: true, netns: options.netns, args: options.args });
    try {
      const initramfs = await addToInitramfs(found.initramfs, files, vm.directory);
      await vm.api.mustPut("vm.create", {
        payload: { kernel: found[kernel], initramfs, cmdline: kernelCommandLine(name, undefined, cmdline) },
        memory: { size: 128 << 20 },
        serial: { mode: name === "ttyS0" ? "Pty" : "Off" },
        console: { mode: name === "hvc0" ? "Pty" : "Off" },
        ...config,
      });
      await vm.api.mustPut("vm.boot");
      const shell = new LinuxShell(vm, await LinuxShell.#open(vm, name), options);
      await shell.ready();
      return shell;
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      throw error;
    }
  }

  static async #open(vm: Vm, name: "hvc0" | "ttyS0"): Promise<Pty> {
    const { config } = await vm.api.info();
    return await Pty.open(config[name === "hvc0" ? "console" : "serial"].file);
  }

  /** Waits for a shell's first prompt (again, after the guest has rebooted with its terminal staying the same). */
  async ready(): Promise<void> {
    await this.pty.expect(/nephos:.*[#$] /, BOOT_TIMEOUT_MS);
    // No prompt and no echo any more: what comes then is what commands write.
    await this.pty.send("PS1=; PS2=; stty -echo; echo shell is ready\n");
    await this.pty.expect("\nshell is ready\n", COMMAND_TIMEOUT_MS);
  }

  /** Opens the terminal again after a reboot made a new one. */
  async reopened(): Promise<LinuxShell> {
    await this.pty[Symbol.asyncDispose]();
    const shell = new LinuxShell(
      this.vm,
      await LinuxShell.#open(this.vm, this.options.console ?? "hvc0"),
      this.options,
    );
    await shell.ready();
    return shell;
  }

  /** Runs a command; returns all it wrote. @throws Error if it fails */
  async run(command: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<string> {
    const { output, code } = await this.try(command, timeoutMs);
    if (code !== 0) throw new Error(`In the guest "${command}" ended with ${code}: ${output}`);
    return output;
  }

  /** Runs a command; returns all it wrote, and its exit code. */
  async try(command: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<{ output: string; code: number }> {
    const mark = `end of command ${++this.#commands}: `;
    await this.pty.send(`{ ${command}\n} 2>&1; echo "${mark}$?"\n`);
    const text = await this.pty.expect(new RegExp(`${mark}\\d+\n`), timeoutMs);
    const at = text.lastIndexOf(mark);
    return { output: text.slice(0, at), code: Number(text.slice(at + mark.length)) };
  }

  /** Starts a command without waiting for it. */
  async begin(command: string): Promise<void> {
    await this.pty.send(`${command}\n`);
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
