/**
 * A tiny guest that does what the test tells it: port and memory accesses of any width, a triple fault, a halt.
 *
 * Test framework. Guest memory is a file shared with the test: commands and results go through a mailbox in it, so no
 * device of the machine is needed, and a heartbeat tells whether the guest executes. It enters long mode with the first
 * 4 GiB mapped one to one, but for a window of 2 MiB at 2 GiB that can be moved to any physical address.
 *
 * Mailbox at 3 MiB: heartbeat, number of starts, doorbell (number of commands), number of finished batches; commands from
 * 3 MiB + 4 KiB on, 16 bytes each: operation, address, value, result.
 *
 * @module
 */

import { join } from "node:path";
import { eventually } from "./deadline.ts";
import { hex, pvhElf } from "./tiny_guest.ts";

const MIB = 1 << 20;
const MAILBOX = 3 * MIB;
const HEARTBEAT = MAILBOX;
const STARTS = MAILBOX + 4;
const DOORBELL = MAILBOX + 8;
const BATCHES = MAILBOX + 12;
const COMMANDS = MAILBOX + 0x1000;
const COMMAND_BYTES = 16;
/** The commands end where the next 2 MiB begin. */
const MAX_COMMANDS = (MIB - 0x1000) / COMMAND_BYTES;

/** Where the guest's window lies in its linear address space. */
export const WINDOW = 0x8000_0000;
const WINDOW_BYTES = 2 * MIB;

const LOAD_GPA = 2 * MIB;
/** So much of the program tells it from anything else. */
const MAGIC_BYTES = 64;
const PAGE_BYTES = 0x1000;
const PML4_OFFSET = PAGE_BYTES;
const PDPT_OFFSET = 2 * PAGE_BYTES;
const DIRECTORIES_OFFSET = 3 * PAGE_BYTES;
const PRESENT_WRITABLE = 3;
const LARGE = 0x80;

/**
 * The program. Enters long mode (GDT behind the jump), prints "U" on COM1, counts its start, then for ever: counts the
 * heartbeat; when the doorbell is not 0, clears it, executes that many commands by a table of jumps, counts the batch.
 */
const PROGRAM = hex(`
  0f20e0 0c20 0f22e0 b800102000 0f22d8 b9800000c0 0f32 80cc01 0f30 0f20c0 0d00000080 0f22c0
  0f011545002000 ea4f0020000800 0000000000000000 ffff0000009baf00 0f00 35002000 00000000
  baf8030000 b055 ee bb00003000 ff4304 ff03 8b4b08 85c9 74f7 c7430800000000 be00103000
  8b5604 8b4608 8b3e 8b3cbdec002000 ffe7
  ec eb13 66ed eb17 ed eb40 ee eb40 66ef eb3c ef eb39 8a02 0fb6c0 eb2f 668b02 0fb7c0 eb27 8b02 eb23
  8802 eb22 668902 eb1d 8902 eb19 89042500502000 89142504502000 0f20d8 0f22d8 eb03
  89460c 83c610 ffc9 759b ff430c eb81 0f011c2520003000 0f0b fa f4 ebfc
  85002000 88002000 8c002000 8f002000 92002000 96002000 99002000 a0002000 a8002000 ac002000
  b0002000 b5002000 b9002000 de002000 e8002000`);

const OPERATIONS = [
  ...["inb", "inw", "inl", "outb", "outw", "outl", "readb", "readw", "readl", "writeb", "writew", "writel"],
  ...["window", "tripleFault", "halt"],
] as const;

/** One thing for the guest to do: what, at which port or linear address, with which value. */
export type Command = readonly [operation: typeof OPERATIONS[number], address?: number, value?: number];

/** Host side of one puppet: its kernel file, its memory file, its mailbox. Both files are removed with it. */
export class Puppet implements AsyncDisposable {
  #batches = 0;
  /** Where guest memory begins in `memory`. */
  #base = 0;
  #memory: Deno.FsFile;

  private constructor(readonly directory: string, memory: Deno.FsFile, readonly sizeBytes: number) {
    this.#memory = memory;
  }

  /** Makes the files; the memory file is sparse. @param sizeBytes guest memory, at least 8 MiB */
  static async make(sizeBytes = 64 * MIB): Promise<Puppet> {
    // Memory files belong on a memory file system where there is one.
    const directory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "nephos-puppet-" })
      .catch(() => Deno.makeTempDir({ prefix: "nephos-puppet-" }));
    await Deno.writeFile(join(directory, "kernel"), pvhElf(image()));
    const memory = await Deno.open(join(directory, "memory"), { read: true, write: true, createNew: true });
    await memory.truncate(sizeBytes);
    return new Puppet(directory, memory, sizeBytes);
  }

  /**
   * Finds the guest's memory in the VMM's process, for a VM that was started with the kernel but not with the file:
   * what its user configures stays as it is. Needs root; again after each start of the guest.
   */
  async attach(pid: number): Promise<void> {
    const process = await Deno.open(`/proc/${pid}/mem`, { read: true, write: true });
    this.#memory.close();
    this.#memory = process;
    this.#batches = 0;
    const code = PROGRAM.subarray(0, MAGIC_BYTES);
    const starts = async (base: number) => {
      this.#base = base;
      const found = await this.readMemory(LOAD_GPA, MAGIC_BYTES).catch(() => undefined);
      return found?.every((byte, index) => byte === code[index]) ?? false;
    };
    await eventually(`the guest's memory in process ${pid}`, async () => {
      for (const line of (await Deno.readTextFile(`/proc/${pid}/maps`)).split("\n")) {
        const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line)?.map((word) => parseInt(word, 16)) ??
          [];
        if (from !== undefined && to - from >= MAILBOX + MIB && await starts(from)) return true;
      }
      return false;
    });
    await this.started();
  }

  /** What holds guest memory: the file, or the process `attach` was given. */
  get memory(): Deno.FsFile {
    return this.#memory;
  }

  /** Path of its kernel. */
  get kernel(): string {
    return join(this.directory, "kernel");
  }

  /** Path of its memory. */
  get memoryPath(): string {
    return join(this.directory, "memory");
  }

  /** Options that give a VM this kernel and this memory. @param serial value of `--serial` */
  args(serial = "null"): string[] {
    return [
      ...["--kernel", this.kernel, "--serial", serial, "--console", "off", "--memory", "size=0"],
      ...["--memory-zone", `id=ram,size=${this.sizeBytes},file=${this.memoryPath},shared=on`],
    ];
  }

  /** As `args`, for `vm.create`; `more` is put over it. */
  config(more: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      payload: { kernel: this.kernel },
      memory: {
        size: 0,
        zones: [{ id: "ram", size: this.sizeBytes, file: this.memoryPath, shared: true }],
      },
      serial: { mode: "Null" },
      console: { mode: "Off" },
      ...more,
    };
  }

  /** Counts up while the guest executes and has nothing to do. */
  heartbeat(): Promise<number> {
    return this.#word(HEARTBEAT);
  }

  /** How often the guest has started. */
  starts(): Promise<number> {
    return this.#word(STARTS);
  }

  /** Waits until the guest has started `count` times. */
  async started(count = 1): Promise<void> {
    await eventually(`start ${count} of the guest`, async () => await this.starts() >= count);
  }

  /** Waits until the guest executes, from now on. */
  async beats(): Promise<void> {
    const before = await this.heartbeat();
    await eventually("a heartbeat of the guest", async () => await this.heartbeat() !== before);
  }

  /** Executes commands, at most 65,280 of them. @returns what they read, 0 for those that read nothing */
  async run(...commands: Command[]): Promise<number[]> {
    const wanted = ++this.#batches;
    await this.#ring(commands);
    await eventually(
      `the end of ${commands.length} commands`,
      async () => await this.#word(BATCHES) === wanted,
    );
    const bytes = await this.readMemory(COMMANDS, commands.length * COMMAND_BYTES);
    const view = new DataView(bytes.buffer);
    return commands.map((_, index) => view.getUint32(index * COMMAND_BYTES + 12, true));
  }

  /** Executes a command from which the guest does not come back, such as a reset. Does not wait. */
  async leave(command: Command): Promise<void> {
    await this.#ring([command]);
  }

  /** Moves the window to the 2 MiB of physical memory that hold `gpa`. @returns the linear address of `gpa` */
  async map(gpa: number): Promise<number> {
    const base = gpa - gpa % WINDOW_BYTES;
    await this.run(["window", Math.floor(base / 2 ** 32), (base % 2 ** 32) + PRESENT_WRITABLE + LARGE]);
    return WINDOW + gpa % WINDOW_BYTES;
  }

  /** Bytes of guest memory as the host sees them in the file. */
  async readMemory(offset: number, lengthBytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(lengthBytes);
    // At once: what runs beside this may move the file's position.
    this.memory.seekSync(this.#base + offset, Deno.SeekMode.Start);
    for (let done = 0; done < lengthBytes;) {
      const count = this.memory.readSync(bytes.subarray(done));
      if (count === null) throw new Error(`The memory file ends at ${offset + done}`);
      done += count;
    }
    return bytes;
  }

  /** Changes guest memory from the host. */
  async writeMemory(offset: number, bytes: Uint8Array): Promise<void> {
    this.memory.seekSync(this.#base + offset, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) done += this.memory.writeSync(bytes.subarray(done));
  }

  async #ring(commands: Command[]): Promise<void> {
    if (commands.length > MAX_COMMANDS) throw new RangeError(`At most ${MAX_COMMANDS} commands at once`);
    const view = new DataView(new ArrayBuffer(commands.length * COMMAND_BYTES));
    commands.forEach(([operation, address = 0, value = 0], index) => {
      [OPERATIONS.indexOf(operation), address, value, 0].forEach((word, place) =>
        view.setUint32(index * COMMAND_BYTES + place * 4, word >>> 0, true)
      );
    });
    await this.writeMemory(COMMANDS, new Uint8Array(view.buffer));
    await this.writeMemory(DOORBELL, new Uint8Array(Uint32Array.of(commands.length).buffer));
  }

  async #word(offset: number): Promise<number> {
    return new DataView((await this.readMemory(offset, 4)).buffer).getUint32(0, true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#memory.close();
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** Program and page tables, as they lie at 2 MiB. */
function image(): Uint8Array {
  const bytes = new Uint8Array(DIRECTORIES_OFFSET + 4 * PAGE_BYTES);
  bytes.set(PROGRAM);
  const view = new DataView(bytes.buffer);
  view.setUint32(PML4_OFFSET, LOAD_GPA + PDPT_OFFSET + PRESENT_WRITABLE, true);
  for (let index = 0; index < 4; index++) {
    const directory = LOAD_GPA + DIRECTORIES_OFFSET + index * PAGE_BYTES;
    view.setUint32(PDPT_OFFSET + index * 8, directory + PRESENT_WRITABLE, true);
  }
  for (let index = 0; index < 4 * 512; index++) {
    const entry = index * WINDOW_BYTES + PRESENT_WRITABLE + LARGE;
    view.setUint32(DIRECTORIES_OFFSET + index * 8, entry, true);
  }
  return bytes;
}
