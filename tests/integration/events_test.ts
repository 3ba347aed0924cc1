/**
 * The event stream of the built program: files, fifos with late and leaving readers, descriptors, server-sent events.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parseEvents } from "@tests/framework/event_reader.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { binary: true };

const names = (text: string) => parseEvents(text).map(({ source, event }) => `${source}/${event}`);

testWith(
  { ...NEEDS, commands: ["mkfifo"] },
  "events into a fifo: nobody reads at first, then somebody, then nobody",
  async () => {
    const directory = await Deno.makeTempDir({ prefix: "nephos-fifo-" });
    const fifo = join(directory, "fifo");
    await new Deno.Command("mkfifo", { args: [fifo] }).output();
    try {
      await using vm = await Vm.start({
        program: "cloud-hypervisor",
        args: ["--event-monitor", `path=${fifo}`],
      });
      await vm.api.mustPut("vm.create", { console: { mode: "Null" } });
      await vm.api.mustPut("vm.delete");
      const reader = new Deno.Command("head", { args: ["-n", "20", fifo], stdout: "piped" }).spawn();
      const { stdout } = await reader.output();
      assert.deepEqual(names(new TextDecoder().decode(stdout)), ["vmm/starting", "vm/deleted"]);
      await vm.api.mustPut("vm.create", { console: { mode: "Null" } });
      await vm.api.mustPut("vm.delete");
      assert.equal((await vm.api.get("vmm.ping")).status, 200);
      assert.equal((await vm.stop()).code, 0);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
);

testWith(NEEDS, "an event monitor that cannot be opened is an error with its reason", async () => {
  for (
    const [place, reason] of [["path=/nonexistent/x", "No such file or directory (os error 2)"], [
      "fd=77",
      "Bad file descriptor (os error 9)",
    ]]
  ) {
    const { code, stderr } = await new Deno.Command(programPath("cloud-hypervisor")!, {
      args: ["--event-monitor", place],
      stdin: "null",
    }).output();
    assert.equal(code, 1);
    const text = new TextDecoder().decode(stderr);
    assert.ok(text.endsWith(`  0: Error doing event monitor I/O\n  1: ${reason}\n`), text);
  }
});

testWith(
  NEEDS,
  "server-sent events, metrics and the OpenAPI document are extras of the default front door",
  async () => {
    await using vm = await Vm.start();
    using feed = await Deno.connect({ transport: "unix", path: vm.api.socketPath });
    await feed.write(new TextEncoder().encode("GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"));
    let text = "";
    const reading = (async () => {
      for await (const part of feed.readable) text += new TextDecoder().decode(part);
    })().catch(() => {});
    await eventually("the feed", () => text.includes(": events"));
    await vm.api.mustPut("vm.create", { console: { mode: "Null" } });
    await vm.api.mustPut("vm.delete");
    await eventually("the event", () => /event: vm\/deleted\ndata: \{"timestamp"/.test(text));
    const metrics = await vm.api.get("/metrics");
    assert.match(metrics.header("content-type")!, /^text\/plain; version=0\.0\.4/);
    assert.match(
      metrics.body,
      /nephos_api_requests_total\{door="http",endpoint="vm.create",status="204"\} 1\n/,
    );
    const document = (await vm.api.get("openapi.json")).json<{ openapi: string; paths: object }>();
    assert.equal(document.openapi.slice(0, 2), "3.");
    assert.equal(Object.keys(document.paths).length, 31);
    assert.equal((await vm.stop()).code, 0);
    await reading;
    // The last event, then the end of the body: the feed was ended, not cut off.
    assert.match(text, /event: vmm\/shutdown\ndata: [^\n]*\n\n\r\n0\r\n\r\n$/);
  },
);

testWith(NEEDS, "the drop-in dialect has no path the original lacks", async () => {
  await using vm = await Vm.start({ program: "cloud-hypervisor" });
  for (const path of ["/metrics", "/api/v1/events", "/api/v1/openapi.json"]) {
    assert.equal((await vm.api.get(path)).status, 404);
  }
  assert.equal(vm.stdout.text + vm.stderr.text, "");
});
