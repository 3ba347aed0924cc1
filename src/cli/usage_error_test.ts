import assert from "node:assert/strict";
import { scanArguments } from "./arguments.ts";
import { optionsFor } from "./options.ts";
import { requiredErrorText, similarity, similarNames, usageErrorText } from "./usage_error.ts";

const subject = { program: "cloud-hypervisor", summary: "[OPTIONS]", options: optionsFor(false) };

function text(...argv: string[]): string {
  const scan = scanArguments(argv, subject.options);
  assert(scan.kind === "fault");
  return usageErrorText(subject, scan.fault);
}

const END = "For more information, try '--help'.\n";

Deno.test("usageErrorText() proposes a similar option", () => {
  assert.equal(
    text("--kernl", "x"),
    "error: unexpected argument '--kernl' found\n\n  tip: a similar argument exists: '--kernel'\n\n" +
      `Usage: cloud-hypervisor --kernel <kernel>\n\n${END}`,
  );
  assert.equal(
    text("--foo"),
    `error: unexpected argument '--foo' found\n\nUsage: cloud-hypervisor [OPTIONS]\n\n${END}`,
  );
});

Deno.test("usageErrorText() knows --help as an option", () => {
  const usage = `Usage: cloud-hypervisor --help\n\n${END}`;
  assert.equal(
    text("--hlep"),
    `error: unexpected argument '--hlep' found\n\n  tip: a similar argument exists: '--help'\n\n${usage}`,
  );
  assert.equal(
    text("--kernel", "a", "--help=1"),
    `error: unexpected value '1' for '--help' found; no more were expected\n\n${usage}`,
  );
});

Deno.test("usageErrorText() lists the values of an option that has none", () => {
  const missing = "error: a value is required for '--seccomp <seccomp>' but none was supplied\n" +
    `  [possible values: true, false, log, errno]\n\n${END}`;
  assert.equal(text("--seccomp"), missing);
  assert.equal(text("--seccomp", ""), missing);
  assert.match(text("--seccomp", "tru"), /\n\n {2}tip: a similar value exists: 'true'\n\n/);
});

Deno.test("usageErrorText() explains values", () => {
  assert.equal(
    text("--disk"),
    `error: a value is required for '--disk <disk>...' but none was supplied\n\n${END}`,
  );
  assert.equal(
    text("--seccomp", "foo"),
    "error: invalid value 'foo' for '--seccomp <seccomp>'\n  [possible values: true, false, log, errno]\n\n" +
      END,
  );
  assert.equal(
    text("--landlock=1"),
    "error: unexpected value '1' for '--landlock' found; no more were expected\n\n" +
      `Usage: cloud-hypervisor --landlock\n\n${END}`,
  );
  assert.equal(
    text("--kernel", "a", "--kernel", "b"),
    "error: the argument '--kernel <kernel>' cannot be used multiple times\n\n" +
      `Usage: cloud-hypervisor [OPTIONS]\n\n${END}`,
  );
});

Deno.test("requiredErrorText() shows what is there and what is missing", () => {
  assert.equal(
    requiredErrorText(subject, ["<x|y>"], ["memory", "pvpanic", "disk", "verbose", "rtc"]),
    "error: the following required arguments were not provided:\n  <x|y>\n\nUsage: cloud-hypervisor " +
      `--memory <memory> --pvpanic --disk <disk>... -v... --rtc [<rtc>] <x|y>\n\n${END}`,
  );
});

Deno.test("similarity() is Jaro's", () => {
  assert.equal(similarity("a", "a"), 1);
  assert.equal(similarity("a", "b"), 0);
  assert.equal(similarity("", "b"), 0);
  assert.ok(Math.abs(similarity("martha", "marhta") - 0.944) < 0.001);
  assert.ok(Math.abs(similarity("dixon", "dicksonx") - 0.767) < 0.001);
});

Deno.test("similarNames() has the most similar last", () => {
  assert.deepEqual(similarNames("qqq", ["kernel"]), []);
  assert.deepEqual(similarNames("inf", ["info", "boot", "ping"]), ["ping", "info"]);
});
