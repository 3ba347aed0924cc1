import assert from "node:assert/strict";
import { inspect } from "node:util";
import { readFileSync } from "node:fs";
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { parseCommandLine, personalityOf } from "./command_line.ts";
import type { PrintCommand, RunCommand } from "./command_result.ts";

async function run(...argv: string[]): Promise<RunCommand> {
  const result = await parseCommandLine(argv, "cloud-hypervisor");
  assert(result.kind === "run", inspect(result));
  return result;
}

async function printed(personality: "nephos" | "cloud-hypervisor", ...argv: string[]): Promise<PrintCommand> {
  const result = await parseCommandLine(argv, personality);
  assert(result.kind === "print", inspect(result));
  return result;
}

async function failed(...argv: string[]): Promise<string[]> {
  const result = await parseCommandLine(argv, "cloud-hypervisor");
  assert(result.kind === "fail", inspect(result));
  return messagesOf(result.error);
}

Deno.test("personalityOf() looks at the last part of the name", () => {
  assert.equal(personalityOf("/usr/bin/cloud-hypervisor"), "cloud-hypervisor");
  assert.equal(personalityOf("ch-remote"), "ch-remote");
  assert.equal(personalityOf("/opt/nephos"), "nephos");
  assert.equal(personalityOf(""), "nephos");
});

Deno.test("the API socket is a path, path= or fd=", async () => {
  const socket = async (text: string) => (await run("--api-socket", text)).vmm.apiSocket;
  for (const text of ["/x", "path=/x", 'path="/x"', "path= /x ", "path=/x,foo=b"]) {
    assert.deepEqual(await socket(text), { kind: "path", path: "/x" }, text);
  }
  for (const text of ["fd=", "path=", "foo=1", "a,b", '"a"', " a ", "path=[x", ""]) {
    assert.deepEqual(await socket(text), { kind: "path", path: text });
  }
  for (const text of ["fd=3", "fd=+3", "path=/x,fd=3"]) {
    assert.deepEqual(await socket(text), { kind: "fd", fd: 3 });
  }
  assert.deepEqual(await failed("--api-socket", "fd=x"), [
    "Error parsing --api-socket",
    "invalid digit found in string",
  ]);
  assert.deepEqual((await failed("--api-socket", "fd=-1"))[0], "Error parsing --api-socket");
});

Deno.test("options of the process", async () => {
  const { vmm, vm, restore } = await run(
    "--event-monitor=path=/e",
    "--gdb",
    "path=/g",
    "--no-shutdown",
    "--seccomp",
    "log",
    "-vv",
    "--log-file",
    "/l",
    "--log-format",
    "{msg}",
    "--dbus-service-name",
    "org.x",
    "--dbus-object-path",
    "/org/x",
    "--dbus-system-bus",
  );
  assert.deepEqual(vmm, {
    gdbSocket: "/g",
    eventMonitor: { kind: "path", path: "/e" },
    dbus: { serviceName: "org.x", objectPath: "/org/x", systemBus: true },
    noShutdown: true,
    seccomp: "log",
    log: { verbosity: 2, file: "/l", format: "{msg}" },
  });
  assert.equal(vm, undefined);
  assert.equal(restore, undefined);
});

Deno.test("refused options of the process", async () => {
  assert.deepEqual(await failed("--event-monitor", "foo"), [
    "Error parsing --event-monitor",
    "Unknown option: foo",
  ]);
  assert.deepEqual(await failed("--event-monitor", "path="), [
    "Error parsing --event-monitor: path or fd required",
  ]);
  assert.deepEqual(await failed("--event-monitor", "fd=-1"), [
    "Error parsing --event-monitor",
    "Unable to convert -1 for fd",
  ]);
  assert.deepEqual(await failed("--gdb", ""), ["Error parsing --gdb: path required"]);
  assert.deepEqual(await failed("--dbus-service-name", "a"), ["`--dbus-object-path` option isn't provided"]);
  assert.deepEqual(await failed("--dbus-object-path", "a"), ["`--dbus-service-name` option isn't provided"]);
});

Deno.test("a VM needs a payload; the payload makes the VM", async () => {
  const text = (await printed("cloud-hypervisor", "--cpus", "boot=2", "--landlock")).text;
  assert.match(text, /^error: the following required arguments were not provided:\n {2}<--firmware /);
  assert.match(text, /Usage: cloud-hypervisor --cpus <cpus> --landlock <--firmware/);
  assert.equal((await run("--fw-cfg-config", "nonsense")).vm, undefined);
  const { vm, restore } = await run(
    "--kernel",
    "/k",
    "--restore",
    "nonsense",
    "--cmdline",
    "a b",
    "--gdb",
    "path=/g",
  );
  assert.deepEqual(vm?.payload, { kernel: "/k", cmdline: "a b" });
  assert.equal(vm?.gdb, true);
  assert.equal(restore, undefined);
});

Deno.test("defaults of a VM", async () => {
  const { vm } = await run("--kernel", "");
  assert.equal(vm?.memory.size, 512n << 20n);
  assert.deepEqual(vm?.console, { mode: "Tty", iommu: false, pci_segment: 0 });
  assert.deepEqual(vm?.serial, { mode: "Null" });
  assert.deepEqual(vm?.debug_console, { mode: "Off", iobase: 0xe9 });
  assert.equal("disks" in vm!, false);
  assert.deepEqual(vm?.payload, { kernel: "" });
});

Deno.test("a refused configuration carries the original's chain and the log options", async () => {
  const result = await parseCommandLine(["--kernel", "k", "--disk", "foo=1", "-v"], "cloud-hypervisor");
  assert(result.kind === "fail");
  assert.deepEqual(messagesOf(result.error), [
    "Error parsing config",
    "Error parsing --disk",
    "Unknown option: foo",
  ]);
  assert.equal(result.log.verbosity, 1);
  assert.deepEqual(await failed("--kernel", "k", "--firmware", "f"), [
    "Error parsing config",
    "Error validating configuration",
    "Payload configuration is not bootable",
    "Specifying a kernel is not supported when a firmware is provided",
  ]);
  assert.deepEqual(await failed("--restore", "foo"), [
    "Error parsing restore",
    "Error parsing --restore",
    "Unknown option: foo",
  ]);
});

Deno.test("--restore without payload", async () => {
  assert.equal((await run("--restore", "source_url=file:///s")).restore?.source_url, "file:///s");
});

Deno.test("versions", async () => {
  assert.match(
    (await printed("cloud-hypervisor", "-V")).text,
    /^cloud-hypervisor v54\.0\.0\nMigration Protocol Versions: 0\n$/,
  );
  assert.match((await printed("cloud-hypervisor", "-Vv")).text, /\nEnabled features: \[.*"kvm".*\]\n$/);
  assert.match((await printed("nephos", "--version")).text, /^nephos 0\.1\.0/);
});

Deno.test("no arguments: help on standard error, exit code 2", async () => {
  const none = await printed("cloud-hypervisor");
  assert.equal(none.exitCode, 2);
  assert.equal(none.stream, "stderr");
  const help = await printed("cloud-hypervisor", "--help");
  assert.deepEqual(help, { ...none, exitCode: 0, stream: "stdout" });
});

Deno.test("help fits 80 columns and names every option", async () => {
  for (const personality of ["nephos", "cloud-hypervisor"] as const) {
    const { text } = await printed(personality, "--help");
    for (const line of text.split("\n")) assert.ok(line.length <= 80, line);
    for (const name of ["--kernel <kernel>", "--disk <disk>...", "--rtc [<rtc>]", "-v...", "-V, --version"]) {
      assert.ok(text.includes(name), name);
    }
    assert.equal(text.includes("--config"), personality === "nephos");
    assert.equal(text.includes("_disable_aio"), false);
  }
});

Deno.test("--config is an extra that replaces the other options", async () => {
  assert.match((await printed("cloud-hypervisor", "--config", "x")).text, /unexpected argument '--config'/);
  assert.match(
    (await printed("nephos", "--config", "x", "--cpus", "boot=1")).text,
    /'--config <config>' cannot be used with '--cpus <cpus>'/,
  );
  const missing = await parseCommandLine(["--config", "/nonexistent/vm.json"], "nephos");
  assert(missing.kind === "fail");
  assert.deepEqual(messagesOf(missing.error).slice(1), [
    'Cannot read VM configuration "/nonexistent/vm.json"',
    "No such file or directory (os error 2)",
  ]);
});

Deno.test("--config names the field it cannot read", async () => {
  const file = Deno.makeTempFileSync();
  try {
    Deno.writeTextFileSync(file, '{"disks":[{"path":"a"},{"num_queues":"1"}]}');
    const result = await parseCommandLine(["--config", file], "nephos");
    assert(result.kind === "fail");
    assert.match(
      messagesOf(result.error).at(-1)!,
      /expected usize at line 1 column \d+ \(disks\[1\]\.num_queues\)$/,
    );
  } finally {
    Deno.removeSync(file);
  }
});

Deno.test("sub-commands of nephos", async () => {
  assert.deepEqual(await parseCommandLine(["remote", "info"], "nephos"), {
    kind: "remote",
    argv: ["info"],
    program: "nephos remote",
  });
  assert.deepEqual(await parseCommandLine(["info"], "ch-remote"), {
    kind: "remote",
    argv: ["info"],
    program: "ch-remote",
  });
  assert.deepEqual(await parseCommandLine(["openapi"], "nephos"), { kind: "openapi" });
  assert.equal((await printed("cloud-hypervisor", "remote", "info")).exitCode, 2);
});

Deno.test("sub-commands explain themselves and refuse what they do not know", async () => {
  for (const flag of ["--help", "-h"]) {
    const { text, stream, exitCode } = await printed("nephos", "openapi", flag);
    assert.deepEqual([stream, exitCode], ["stdout", 0]);
    assert.equal(text, "Print the OpenAPI document of the REST API.\n\nUsage: nephos openapi\n");
    assert.match(
      (await printed("nephos", "completion", flag)).text,
      /^Usage: nephos completion <bash\|zsh\|fish>$/m,
    );
  }
  for (
    const argv of [["openapi", "x"], ["openapi", "--x"], ["completion", "tcsh"], ["completion", "bash", "x"]]
  ) {
    const { text, stream, exitCode } = await printed("nephos", ...argv);
    assert.deepEqual([stream, exitCode], ["stderr", 2]);
    assert.match(
      text,
      new RegExp(`^error: unexpected argument '${argv.at(-1)}' found\n\nUsage: nephos ${argv[0]}`),
    );
  }
  assert.match((await printed("nephos", "completion")).text, /not provided:\n {2}<bash\|zsh\|fish>\n/);
});

Deno.test("completion scripts know every option and sub-command", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { text, exitCode } = await printed("nephos", "completion", shell);
    assert.equal(exitCode, 0);
    for (
      const word of ["debug-console", "generic-vhost-user", "dbus-system-bus", "send-migration", "completion"]
    ) {
      assert.ok(text.includes(word), `${shell}: ${word}`);
    }
  }
  assert.equal((await printed("nephos", "completion", "tcsh")).exitCode, 2);
});

/** Files loaded when `file` is, by static imports. */
function loadedWith(file: URL, seen = new Set<string>()): Set<string> {
  if (seen.has(file.href)) return seen;
  seen.add(file.href);
  const source = readFileSync(file, "utf8");
  const root = new URL("../../", import.meta.url);
  for (const [, specifier] of source.matchAll(/^import (?!type\b)[^;]*?from "([^"]+)";/gms)) {
    const path = specifier.replace(/^@vmm\//, "src/").replace(/^@schemas\//, "schemas/");
    if (specifier.startsWith("./")) loadedWith(new URL(specifier, file), seen);
    else if (specifier.startsWith("@")) loadedWith(new URL(path, root), seen);
    else seen.add(specifier);
  }
  return seen;
}

Deno.test("starting with an API socket alone loads neither schemas nor help", () => {
  const loaded = [...loadedWith(new URL("./command_line.ts", import.meta.url))];
  assert.ok(loaded.length > 4);
  for (const item of loaded) assert.doesNotMatch(item, /zod|schemas|help|node:|usage_error|to_config/);
});
