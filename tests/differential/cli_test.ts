/**
 * Command lines against the original's: same configuration, or the same chain of errors and exit code.
 *
 * @module
 */
import assert from "node:assert/strict";
import { inspect } from "node:util";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { debugConsoleParameters, serialParameters } from "@schemas/cli/console.ts";
import type { ParameterTable } from "@schemas/cli/parameter.ts";
import { writeJson } from "@schemas/json/writer.ts";
import { normalizeVmConfig } from "@schemas/normalize.ts";
import { parseCommandLine } from "@vmm/cli/command_line.ts";
import { OPTION_HELP } from "@vmm/cli/option_help.ts";
import { type OptionName, optionsFor } from "@vmm/cli/options.ts";
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { scaled } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { optionValues } from "./option_values.ts";
import { REFERENCE_VMM } from "./reference_vmm.ts";

type Json = Record<string, unknown>;

/** How a command line ends: running with a configuration, or not. */
type Outcome =
  | { readonly kind: "running"; readonly config: Json }
  | { readonly kind: "ended"; readonly code: number; readonly stderr: string };

const START_LIMIT_MS = scaled(120_000);
const POLL_MS = 4;

/** A directory with a kernel that halts, where originals are started. */
class Workplace implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync({ prefix: "cli-" });
  readonly kernel = `${this.directory}/kernel`;

  constructor() {
    Deno.writeFileSync(this.kernel, pvhElf(HALT));
    Deno.writeFileSync(`${this.directory}/file`, new Uint8Array(1 << 20));
  }

  /** Starts the original with `argv`, waits until its VM is there or it ends, and stops it. */
  async run(argv: readonly string[]): Promise<Outcome> {
    const socket = `${this.directory}/api.sock`;
    const process = new Deno.Command(REFERENCE_VMM!, {
      args: ["--api-socket", socket, "--seccomp", "false", ...argv],
      cwd: this.directory,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      env: { RUST_BACKTRACE: "0" },
    }).spawn();
    let ended = false;
    const output = process.output().then((result) => {
      ended = true;
      return result;
    });
    const deadline = Date.now() + START_LIMIT_MS;
    let config: Json | undefined;
    while (!ended && config === undefined && Date.now() < deadline) {
      config = await vmConfig(socket);
      if (config === undefined) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    if (!ended) process.kill("SIGKILL");
    const { code, stderr } = await output;
    await Deno.remove(socket).catch(() => {});
    if (config !== undefined) return { kind: "running", config };
    return { kind: "ended", code, stderr: new TextDecoder().decode(stderr) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** `config` of a running VM, or undefined. */
async function vmConfig(socket: string): Promise<Json | undefined> {
  try {
    using connection = await HttpConnection.open(socket);
    const response = await connection.request("GET", "/api/v1/vm.info");
    if (response.status !== 200) return undefined;
    // While it makes the VM, the original takes device lists out of its configuration.
    const { config, state } = response.json<{ config: Json; state: string }>();
    return state === "Running" ? config : undefined;
  } catch {
    return undefined;
  }
}

/** The chain of errors printed by the original. */
function chainOf(stderr: string): string[] {
  const lines = stderr.split("\n");
  const heading = lines.findIndex((line) => line.startsWith("Error: Cloud Hypervisor exited with"));
  return lines.slice(heading + 1).filter((line) => line.startsWith("  ")).map((line) =>
    line.replace(/^ {2}(\d+: )?/, "")
  );
}

/** Errors after which the original had understood the command line. */
const LATER = ["Error booting VM", "Error creating VM"];

/** Fields the original fills in when it makes the VM. */
function withoutGenerated(value: unknown, ours: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map((item, index) => withoutGenerated(item, (ours as unknown[])?.[index]));
  }
  if (value === null || typeof value !== "object") return value;
  const own = ours as Json | undefined;
  const generated = (key: string) => ["id", "mac"].includes(key) && own?.[key] === undefined;
  const path = (key: string) => key === "file" && (value as Json).mode === "Pty";
  return Object.fromEntries(
    Object.entries(value).filter(([key]) => !generated(key) && !path(key)).map((
      [key, item],
    ) => [key, withoutGenerated(item, own?.[key])]),
  );
}

/** Compares the outcome of `argv` (beside a kernel). */
async function compare(workplace: Workplace, argv: readonly string[]): Promise<void> {
  const full = ["--kernel", workplace.kernel, ...argv];
  const label = JSON.stringify(argv);
  // Both look at relative paths from their own directory; ours must see the same files.
  const before = Deno.cwd();
  Deno.chdir(workplace.directory);
  const ours = await parseCommandLine(full, "cloud-hypervisor").finally(() => Deno.chdir(before));
  const reference = await workplace.run(full);
  if (reference.kind === "running") {
    assert(ours.kind === "run" && ours.vm !== undefined, `${label}: ${inspect(ours)}`);
    const config = JSON.parse(writeJson(VmConfigSchema, normalizeVmConfig(ours.vm)));
    assert.deepEqual(withoutGenerated(config, config), withoutGenerated(reference.config, config), label);
    return;
  }
  const chain = chainOf(reference.stderr);
  if (LATER.includes(chain[0])) {
    assert.equal(ours.kind, "run", `${label}: ${inspect(ours)}\n${reference.stderr}`);
  } else if (reference.code === 2) {
    assert(ours.kind === "print", `${label}: ${inspect(ours)}`);
    assert.equal(ours.exitCode, 2);
    assert.equal(ours.text, reference.stderr, label);
  } else {
    assert.equal(reference.code, 1, `${label}: ${reference.stderr}`);
    assert(ours.kind === "fail", `${label}: ${inspect(ours)}\n${reference.stderr}`);
    assert.deepEqual(messagesOf(ours.error), chain, label);
  }
}

function differential(name: string, run: (workplace: Workplace) => Promise<void>): void {
  Deno.test({
    name: REFERENCE_VMM === undefined ? `${name} (skipped: REFERENCE_VMM is not set)` : name,
    ignore: REFERENCE_VMM === undefined,
    fn: async () => {
      await using workplace = new Workplace();
      await run(workplace);
    },
  });
}

/** One option to try: what it needs, further values, options beside it, values to leave out and why. */
interface OptionTrial {
  readonly option: OptionName;
  readonly base?: Readonly<Record<string, string>>;
  readonly extra?: Readonly<Record<string, readonly string[]>>;
  readonly beside?: readonly string[];
  readonly table?: ParameterTable;
  /** Values that hang or kill the original, or in which we are stricter. */
  readonly skip?: RegExp;
}

const OFF = ["--console", "off"];

/** Values of parameters without a mode word. */
const withoutWords = (table: ParameterTable) =>
  Object.fromEntries(Object.entries(table).filter(([, { kind }]) => kind !== "word"));

const TRIALS: readonly OptionTrial[] = [
  {
    option: "cpus",
    extra: {
      max: ["2", "0", "9000"],
      topology: [
        "1:1:1:1",
        "1:1:1",
        "1:x:1:1",
        "1:1:1:1:1",
        "1:70000:1:1",
        "2:1:1:1",
        '"1:1:1:1"',
        "1:0:1:1",
        "3:1:1:1",
      ],
      features: ["[foo]", "foo", "", "[]", "[AMX]"],
    },
    // kvm_hyperv=on panics on some hosts; amx depends on the host; eight thousand vCPUs take too long.
    skip: /kvm_hyperv=(on|True|")|boot=4294967295|max=4294967295|core_scheduling=vcpu/,
  },
  {
    option: "memory",
    extra: { size: ["64M", "0"], hugepage_size: ["2M"] },
    skip: /hotplugged?_size=(1G|2M)/,
  },
  {
    option: "memory-zone",
    base: { id: "z", size: "64M" },
    beside: ["--memory", "size=0"],
    extra: { file: ["file"] },
  },
  { option: "numa", base: { guest_numa_id: "0", cpus: "[0]" }, skip: /=4294967295/ },
  {
    option: "rate-limit-group",
    base: { id: "g", bw_size: "1", bw_refill_time: "2", ops_size: "3", ops_refill_time: "4" },
  },
  { option: "rng", base: { src: "/dev/zero" } },
  { option: "rtc" },
  { option: "balloon", base: { size: "1M" } },
  {
    option: "platform",
    extra: {
      num_pci_segments: ["2", "16", "97"],
      iommu_segments: ["[0]"],
      iommu_address_width: ["48", "64", "65"],
    },
    skip: /iommufd_fd=/,
  },
  { option: "pci-segment", base: { pci_segment: "0" } },
  {
    option: "landlock-rules",
    base: { path: "/", access: "rw" },
    extra: { access: ["r", "w", "wr", "rr", "rrr", "x", "R"] },
  },
  { option: "ivshmem", base: { path: "file", size: "1M" } },
  {
    option: "fw-cfg-config",
    base: { kernel: "off", cmdline: "off", initramfs: "off" },
    extra: {
      items: [
        ...[
          "[name=a,string=b]",
          "[name=a,string=b:name=c,file=file]",
          "[name=a]",
          "[string=a]",
          "name=a",
          "[]",
        ],
        ...[
          "[foo=a]",
          '[name=a,string="x:y"]',
          "[name=a,string=x=y]",
          "[name=a,string=b:]",
          "[name=a,string=b,file=c]",
        ],
      ],
    },
  },
  { option: "console", table: {}, extra: {}, beside: [] },
  {
    option: "debug-console",
    table: withoutWords(debugConsoleParameters),
    extra: { iobase: ["0xe9", "0x402", "e9", "0x", "0x10000", ""] },
  },
  { option: "serial", table: withoutWords(serialParameters) },
];

for (const { option, base = {}, extra = {}, beside = [], table, skip } of TRIALS) {
  differential(`--${option}: configurations and errors are the original's`, async (workplace) => {
    const parameters = table ?? OPTION_HELP[option].parameters ?? {};
    for (const value of optionValues(parameters, base, extra)) {
      if (skip?.test(value)) continue;
      const console = option === "console" ? [] : OFF;
      await compare(workplace, [...console, ...beside, `--${option}=${value}`]);
    }
  });
}

differential("consoles: modes and their order are the original's", async (workplace) => {
  for (
    const words of [
      "off",
      "null",
      "pty",
      "tty",
      "off=",
      "off=1",
      "off,pty",
      "null,pty",
      "tty,null",
      "file=o,null",
    ]
  ) {
    await compare(workplace, [`--console=${words}`]);
    await compare(workplace, [...OFF, `--serial=${words}`]);
    await compare(workplace, [...OFF, `--debug-console=${words}`]);
  }
  for (
    const value of [
      "file=o",
      'file="o"',
      "file=",
      "file",
      "OFF",
      "socket=",
      "off,iommu=on",
      "iommu=on",
      "off,id=x",
    ]
  ) {
    await compare(workplace, [`--console=${value}`]);
  }
});

differential("devices of the command line are the original's", async (workplace) => {
  for (
    const argv of [
      ["--disk", "path=file,image_type=raw", "path=/dev/null,readonly=on"],
      ["--disk", "path=file,image_type=raw,id=a", "--disk", "path=file,id=a"],
      ["--disk", "path=file,image_type=raw,num_queues=2"],
      ["--disk", "path=file,queue_size=3"],
      ["--disk", "path=file,rate_limit_group=none"],
      [
        "--disk",
        "path=file,image_type=raw,rate_limit_group=g",
        "--rate-limit-group",
        "id=g,ops_size=1,ops_refill_time=1",
      ],
      ["--net", "num_queues=1"],
      ["--net", "mask=255.0.0.0"],
      ["--net", "fd=[0]"],
      ["--pmem", "file=file,size=2M"],
      ["--fs", "tag=a,socket=b"],
      ["--vsock", "cid=2,socket=v"],
      ["--vsock", "cid=3,socket=v"],
      ["--user-device", "socket=u"],
      ["--tpm", ""],
      ["--tpm", "socket="],
      ["--tpm", "foo"],
      ["--vdpa", ""],
      ["--pvpanic", "--watchdog"],
      ["--cmdline", " a b "],
      ["--cmdline=-x"],
      ["--firmware", "f"],
      ["--landlock-rules", "path=/nonexistent,access=r"],
      ["--balloon", "size=1G"],
    ]
  ) await compare(workplace, [...OFF, ...argv]);
});

differential("usage errors are the original's", async () => {
  for (
    const argv of [
      ["--cpus", "boot=1"],
      ["--memory", "a", "--disk", "a", "--cpus", "b", "--numa", "c", "-v", "--log-file", "x", "--rtc"],
      ["--landlock"],
      ["--initramfs", "a"],
      ["--version", "--cpus", "boot=1"],
      ["--foo"],
      ["--version", "--foo"],
      ["--kernel"],
      ["--kernel", "--cpus", "boot=1"],
      ["--kernel", "-x"],
      ["--kernel", "a", "--kernel", "b"],
      ["--no-shutdown", "--no-shutdown"],
      ["--api-socket=a", "--api-socket=b"],
      ["--disk"],
      ["--disk", "path=a", "-x"],
      ["--disk=path=a", "path=b"],
      ["--seccomp", "foo"],
      ["--seccomp", "foo", "--help"],
      ["--seccomp"],
      ["--seccomp", ""],
      ["--seccomp=", "--kernel", "x"],
      ["--seccomp", "True"],
      ["--seccomp", "--", "true"],
      ["--help=1"],
      ["--kernel", "a", "--help="],
      ["--hlep"],
      ["--kernel", "a", "--Help"],
      ["--kernel", "--"],
      ["--kernel", "--", "x"],
      ["--disk", "path=a", "--", "x"],
      ["--landlock=1"],
      ["--version=1"],
      ["--kern", "a"],
      ["--kernl", "x"],
      ["--kernelx"],
      ["--cpu", "x"],
      ["--kernal=3", "--cpus", "x"],
      ["--igvm", "x"],
      ["--pvpanic", "x"],
      ["--rtc", "a", "b", "--kernel", "x"],
      ["positional"],
      ["--kernel", "a", "--", "b"],
      ["--api-socket", "a", "b"],
      ["-x"],
      ["-vx"],
      ["-v3"],
      ["-v=1"],
      ["--dbus-service-name", "--dbus-object-path"],
      ["--rng", "a", "--rtc", "--console", "b", "--cpus", "c", "--kernel", "d", "--foo"],
      ["--memory", "a", "--disk", "b", "--cpus", "c", "--kernle=d"],
      ["--memory", "a", "--kernel", "b", "--cpus", "c", "--kern=d"],
      ["--rng", "a", "--", "--console", "off"],
      ["--disk", "a", "--", "--disk"],
      ["--", "--foo"],
      ["--no-shutdown=1", "--api-socket", "a"],
      ["--api-socket", "a", "--no-shutdown=1"],
      ["--kernel", "a", "--landlock=1"],
    ]
  ) {
    const { code, stdout, stderr } = await new Deno.Command(REFERENCE_VMM!, { args: argv, stdin: "null" })
      .output();
    const ours = await parseCommandLine(argv, "cloud-hypervisor");
    assert(ours.kind === "print", `${argv}: ${inspect(ours)}`);
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assert.deepEqual(
      [ours.exitCode, ours.text],
      [code, decode(stderr) || decode(stdout)],
      JSON.stringify(argv),
    );
  }
});

differential("of several bad options the one that is reported is the original's", async (workplace) => {
  const bad = optionsFor(false).filter(({ name, group }) =>
    (group === "vm" || name === "fw-cfg-config") && OPTION_HELP[name as OptionName].parameters !== undefined
  );
  for (let left = bad; left.length > 0;) {
    const argv = left.map(({ name }) => `--${name}=bad-${name}=1`);
    const { stderr } = await workplace.run(["--kernel", workplace.kernel, ...argv])
      .then((outcome) => outcome.kind === "ended" ? outcome : assert.fail("It runs"));
    const chain = chainOf(stderr);
    const ours = await parseCommandLine(["--kernel", workplace.kernel, ...argv], "cloud-hypervisor");
    assert(ours.kind === "fail");
    assert.deepEqual(messagesOf(ours.error), chain);
    const fewer = left.filter(({ name }) => !chain.at(-1)!.endsWith(`: bad-${name}`));
    assert.equal(fewer.length, left.length - 1);
    left = fewer;
  }
});

differential("options of the process are refused as by the original", async () => {
  for (
    const argv of [
      ["--event-monitor", "foo"],
      ["--event-monitor", ""],
      ["--event-monitor", "fd=x"],
      ["--gdb", "foo"],
      ["--gdb", ""],
      ["--api-socket", "fd=x"],
      ["--api-socket", "fd=99999999999"],
      ["--dbus-service-name", "a"],
      ["--dbus-object-path", "a"],
      ["--restore", ""],
      ["--restore", "foo"],
      ["--restore", "source_url=a,prefault=x"],
      ["--restore", "source_url=a,net_fds=[a@x]"],
    ]
  ) {
    const { code, stderr } = await new Deno.Command(REFERENCE_VMM!, { args: argv, stdin: "null" }).output();
    const ours = await parseCommandLine(argv, "cloud-hypervisor");
    assert(ours.kind === "fail", `${argv}: ${inspect(ours)}`);
    assert.deepEqual([1, messagesOf(ours.error)], [code, chainOf(new TextDecoder().decode(stderr))]);
  }
});
