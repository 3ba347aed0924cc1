/**
 * Linux guests: where kernel and initramfs are, how to boot them, how to run a script in one.
 *
 * Test framework. `scripts/guest/provide` finds or makes the guest; a test's script is added to the initramfs as
 * `/scripts/test`. The guest says NEPHOS-GUEST-UP when user space runs and NEPHOS-SCRIPT-END rc=N after the script,
 * then powers off, which ends the VMM.
 *
 * @module
 */

import { join } from "node:path";
import { Capture } from "./capture.ts";
import { cpioArchive } from "./cpio.ts";
import { BOOT_TIMEOUT_MS } from "./deadline.ts";
import { ROOT } from "./programs.ts";
import { Vm, type VmOptions } from "./vm.ts";

export const UP_MARKER = "NEPHOS-GUEST-UP";
export const END_MARKER = /NEPHOS-SCRIPT-END rc=(\d+)/;
const POLL_INTERVAL_MS = 20;

/** Paths of a guest's parts. */
export interface GuestFiles {
  /** ELF file with a PVH entry; the bzImage where a distribution's kernel could not be unpacked. */
  vmlinux: string;
  bzImage: string;
  initramfs: string;
}

let provided: Promise<GuestFiles> | undefined;

/** The guest's files; the first call may take minutes, where a kernel has to be built. */
export function guestFiles(): Promise<GuestFiles> {
  return provided ??= (async () => {
    const { success, stdout } = await new Deno.Command(join(ROOT, "scripts", "guest", "provide"), {
      stdin: "null",
      stderr: "inherit",
    }).output();
    if (!success) throw new Error("Cannot provide a guest: see the messages above");
    const directory = new TextDecoder().decode(stdout).trim();
    const [vmlinux, bzImage] = ["vmlinux", "bzImage"].map((name) => join(directory, name));
    return {
      vmlinux: await Deno.stat(vmlinux).then(() => vmlinux, () => bzImage),
      bzImage,
      initramfs: join(directory, "initramfs.cpio"),
    };
  })();
}

/** What to boot, and how. */
export interface GuestOptions extends Omit<VmOptions, "api"> {
  /** Shell text to run; the guest powers off when it ends. */
  script?: string;
  /** A script that is always in the initramfs: `hello`, `idle`, `reboot`, `spin`. */
  builtin?: string;
  /** Further files for the initramfs, by path. */
  files?: Record<string, string | Uint8Array>;
  /** Where kernel and script write; default `hvc0`, much quicker than `ttyS0` for long output. */
  console?: "hvc0" | "ttyS0";
  /** Appended to the kernel command line. */
  cmdline?: string;
  /** Default `vmlinux`. */
  kernel?: "vmlinux" | "bzImage";
  /** Value of `--memory`; default `size=128M`. */
  memory?: string;
  /** Value of `--cpus`; default `boot=1`. */
  cpus?: string;
  /** Passes `--api-socket`; default false. */
  api?: boolean;
}

/** A guest that was booted by command line, its console going to a file. */
export class Guest implements AsyncDisposable {
  private constructor(readonly vm: Vm, readonly console: Capture, readonly stopFollowing: AbortController) {}

  /** Starts the VMM with the guest; does not wait for it to come up. `args` are put behind the guest's own. */
  static async start(options: GuestOptions = {}): Promise<Guest> {
    const {
      script,
      builtin,
      files,
      console: name = "hvc0",
      kernel,
      memory,
      cpus,
      cmdline,
      args = [],
      ...rest
    } = options;
    const found = await guestFiles();
    const extra = { ...files, ...(script === undefined ? {} : { "scripts/test": script }) };
    const directory = await Deno.makeTempDir({ prefix: "nephos-guest-" });
    const consolePath = join(directory, "console");
    const initramfs = await addToInitramfs(found.initramfs, extra, directory);
    const device = `file=${consolePath}`;
    const vm = await Vm.start({
      api: false,
      ...rest,
      args: [
        ...["--kernel", found[kernel ?? "vmlinux"], "--initramfs", initramfs],
        ...["--cmdline", kernelCommandLine(name, script === undefined ? builtin : "test", cmdline)],
        ...["--serial", name === "ttyS0" ? device : "off", "--console", name === "hvc0" ? device : "off"],
        ...["--memory", memory ?? "size=128M", "--cpus", cpus ?? "boot=1"],
        ...args,
      ],
    });
    const abort = new AbortController();
    vm.exited.then(() => abort.abort());
    const capture = new Capture(`the guest's console`, followFile(consolePath, abort.signal));
    capture.done.then(() => Deno.remove(directory, { recursive: true }));
    return new Guest(vm, capture, abort);
  }

  /** Waits until the guest's user space runs. */
  async up(timeoutMs: number = BOOT_TIMEOUT_MS): Promise<void> {
    await this.#orDied(this.console.waitFor(UP_MARKER, { timeoutMs }));
  }

  /** Waits for the end of the script; returns what it wrote and its exit code. */
  async scriptEnd(timeoutMs: number = BOOT_TIMEOUT_MS): Promise<ScriptResult> {
    const up = await this.#orDied(this.console.waitFor(`${UP_MARKER}\n`, { timeoutMs }));
    const { text, match } = await this.#orDied(this.console.waitFor(END_MARKER, { timeoutMs, from: up.end }));
    return { output: text.slice(0, text.length - match![0].length), code: Number(match![1]) };
  }

  async #orDied<T>(waiting: Promise<T>): Promise<T> {
    try {
      return await waiting;
    } catch (error) {
      const { message } = error as Error;
      throw new Error(
        `${message}\nThe VMM's standard error ended with:\n${this.vm.stderr.text.slice(-2000)}`,
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
    this.stopFollowing.abort();
    await this.console.done;
  }
}

/** What a script in a guest did. */
export interface ScriptResult {
  output: string;
  code: number;
}

/** Boots a guest, runs a script in it, waits for the VMM to end. @throws Error if the VMM does not end with code 0 */
export async function runInGuest(script: string, options: GuestOptions = {}): Promise<ScriptResult> {
  await using guest = await Guest.start({ ...options, script });
  const result = await guest.scriptEnd();
  const { code, signal } = await guest.vm.waitForExit();
  if (code !== 0) {
    throw new Error(`The VMM ended with ${signal ?? code}: ${guest.vm.stderr.text.slice(-2000)}`);
  }
  return result;
}

/** The kernel command line for a guest. */
export function kernelCommandLine(console: string, script?: string, extra = ""): string {
  return [`console=${console}`, "quiet", "panic=-1", script && `nephos.script=${script}`, extra].filter(
    Boolean,
  ).join(" ");
}

/** The initramfs with further files behind it, written to `directory`; the original's path if there are none. */
export async function addToInitramfs(
  initramfs: string,
  files: Record<string, string | Uint8Array>,
  directory: string,
): Promise<string> {
  if (Object.keys(files).length === 0) return initramfs;
  const path = join(directory, "initramfs.cpio");
  await Deno.copyFile(initramfs, path);
  await Deno.chmod(path, 0o600);
  await Deno.writeFile(path, cpioArchive(files), { append: true });
  return path;
}

/** The contents of a file as they are appended; ends when `signal` fires and everything has been read. */
function followFile(path: string, signal: AbortSignal): ReadableStream<Uint8Array> {
  let file: Deno.FsFile | undefined;
  return new ReadableStream({
    async pull(controller) {
      for (;;) {
        const last = signal.aborted;
        file ??= await Deno.open(path).catch(() => undefined);
        const chunk = new Uint8Array(65536);
        const count = (await file?.read(chunk)) ?? null;
        if (count !== null) return controller.enqueue(chunk.subarray(0, count));
        if (last) {
          file?.close();
          return controller.close();
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
      }
    },
    cancel() {
      file?.close();
    },
  });
}
