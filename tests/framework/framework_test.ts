import assert from "node:assert/strict";
import { join } from "node:path";
import { Capture } from "./capture.ts";
import { hasCommand, run } from "./command.ts";
import { cpioArchive } from "./cpio.ts";
import { DeadlineError, eventually } from "./deadline.ts";
import { EventReader, parseEvents } from "./event_reader.ts";
import { addToInitramfs, kernelCommandLine } from "./guest.ts";
import { patternSector, TempDisk } from "./images.ts";
import { missing, programPath } from "./programs.ts";
import { Pty } from "./pty.ts";

Deno.test("eventually() returns the first value and gives up at the deadline with the reason", async () => {
  let calls = 0;
  assert.equal(await eventually("three", () => ++calls === 3 ? "yes" : undefined), "yes");
  await assert.rejects(eventually("the impossible", () => false, 1), DeadlineError);
  await assert.rejects(eventually("the impossible", () => false, 1), /Not within .* the impossible/);
});

Deno.test("Capture waits for text, from an offset, without carriage returns", async () => {
  const { readable, writable } = new TransformStream<Uint8Array>();
  const writer = writable.getWriter();
  const capture = new Capture("a stream", readable);
  const send = (text: string) => writer.write(new TextEncoder().encode(text));
  send("one\r\ntw");
  const first = await capture.waitFor("one\n");
  assert.deepEqual(first, { text: "one\n", end: 4, match: null });
  const waiting = capture.waitFor(/t(w.)\n/, { from: first.end });
  send("o\r\nthree");
  const second = await waiting;
  assert.deepEqual([second.text, second.end, second.match![1]], ["two\n", 8, "wo"]);
  await writer.close();
  await assert.rejects(
    capture.waitFor("four"),
    /The stream ended without four from a stream.*\none\ntwo\nthree/s,
  );
});

Deno.test("parseEvents() leaves out an unfinished event", () => {
  const event = { timestamp: { secs: 0, nanos: 1 }, source: "vm", event: "booted", properties: null };
  const text = `${JSON.stringify(event, null, 2)}\n\n${JSON.stringify(event).slice(0, 20)}`;
  assert.deepEqual(parseEvents(text), [event]);
});

Deno.test("EventReader counts events of a name and bears with a missing file", async () => {
  await using disk = await TempDisk.withContent("", 0);
  const reader = new EventReader(disk.path);
  const event = (name: string) =>
    `{"timestamp":{"secs":1,"nanos":2},"source":"vm","event":"${name}","properties":null}\n\n`;
  assert.deepEqual(await new EventReader(join(disk.directory, "none")).names(), []);
  const waiting = reader.waitFor("vm/rebooted", { count: 2 });
  await Deno.writeTextFile(disk.path, event("rebooted") + event("rebooting"));
  await Deno.writeTextFile(disk.path, event("rebooted"), { append: true });
  assert.equal((await waiting).event, "rebooted");
  assert.deepEqual(await reader.names(), ["vm/rebooted", "vm/rebooting", "vm/rebooted"]);
});

Deno.test({
  name: "cpioArchive() makes what cpio can read, also behind another archive",
  ignore: !(await hasCommand("cpio")),
  async fn() {
    await using disk = await TempDisk.withContent(cpioArchive({ "first": "1" }), 512);
    const joined = await addToInitramfs(
      disk.path,
      { "scripts/test": "echo hi\n", "odd": "x" },
      disk.directory + "/..",
    );
    try {
      const list = async (path: string, offset: number) =>
        await run("sh", "-c", `tail -c +${offset + 1} "$1" | cpio --quiet -t`, "sh", path);
      assert.equal(await list(joined, 0), "first\n");
      assert.equal(await list(joined, 512), "scripts/test\nodd\n");
      const text = await run(
        "sh",
        "-c",
        `tail -c +513 "$1" | cpio --quiet -i --to-stdout scripts/test`,
        "sh",
        joined,
      );
      assert.equal(text, "echo hi\n");
    } finally {
      await Deno.remove(joined);
    }
  },
});

Deno.test("kernelCommandLine() names the console and the script", () => {
  assert.equal(kernelCommandLine("hvc0"), "console=hvc0 quiet panic=-1");
  assert.equal(
    kernelCommandLine("ttyS0", "test", "a=b"),
    "console=ttyS0 quiet panic=-1 nephos.script=test a=b",
  );
});

Deno.test("TempDisk makes sparse files and patterns that tell sectors apart", async () => {
  let directory: string;
  {
    await using empty = await TempDisk.empty(1 << 20);
    directory = empty.directory;
    assert.equal((await Deno.stat(empty.path)).size, 1 << 20);
    assert.equal(await empty.allocatedBytes(), 0);
    await using pattern = await TempDisk.pattern(64 * 512);
    assert.deepEqual(await pattern.read(5 * 512, 512), patternSector(5));
    assert.notDeepEqual(patternSector(5), patternSector(6));
    assert.notEqual(await pattern.sha256(), await empty.sha256());
  }
  await assert.rejects(Deno.stat(directory), Deno.errors.NotFound);
});

Deno.test("missing() names what a test cannot have", () => {
  assert.equal(missing({}), undefined);
  assert.equal(missing({ commands: ["sh", "no-such-command"] }), "no command no-such-command");
});

Deno.test("programPath() puts the personalities beside the built program", () => {
  const built = programPath("nephos")!;
  assert.equal(programPath("ch-remote"), join(built, "..", "ch-remote"));
});

Deno.test({
  name: "Pty talks to the other side of a terminal and survives its end",
  ignore: !(await hasCommand("socat")),
  async fn() {
    await using disk = await TempDisk.withContent("", 0);
    const link = join(disk.directory, "pty");
    const echo = new Deno.Command("socat", {
      args: [`pty,raw,echo=0,link=${link}`, "system:sed -u s/^/got-/"],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await eventually("the terminal", () => Deno.stat(link).catch(() => undefined));
    {
      await using pty = await Pty.open(link);
      await pty.send("a\n");
      assert.equal(await pty.expect("got-a\n"), "got-a\n");
      await pty.send("b\nc\n");
      assert.equal(await pty.expect(/got-c\n/), "got-b\ngot-c\n");
      echo.kill("SIGTERM");
      await echo.status;
    }
  },
});
