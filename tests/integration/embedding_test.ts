/**
 * The embedding API: the programs, commands and outputs of `docs/embedding.md`, as they stand there.
 *
 * @module
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { ROOT, testWith } from "@tests/framework/programs.ts";
import { HALT, POWER_OFF, pvhElf } from "@tests/framework/tiny_guest.ts";

/** A fenced block of a document. */
interface Block {
  readonly language: string;
  readonly text: string;
}

function blocksOf(document: string): Block[] {
  return [...document.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => ({ language, text }));
}

/** Commands with the output they shall have: a block of commands and the text after it. */
function commandsOf(blocks: readonly Block[]): { commands: string; output: string }[] {
  return blocks.flatMap(({ language, text }, index) => {
    if (language !== "sh") return [];
    const after = blocks[index + 1];
    assert.equal(after?.language, "text", `No output is given for ${text}`);
    return [{ commands: text, output: after.text }];
  });
}

const blocks = blocksOf(await Deno.readTextFile(join(ROOT, "docs", "embedding.md")));

/** A project as the document describes it. */
async function makeProject(): Promise<AsyncDisposable & { directory: string }> {
  const directory = await Deno.makeTempDir({ prefix: "nephos-embedding-" });
  // A copy, because a bundler follows links out of the project.
  await Deno.mkdir(join(directory, "nephos"));
  const sources = ["mod.ts", "src", "ffi", "schemas"].map((name) => join(ROOT, name));
  await new Deno.Command("cp", { args: ["-r", ...sources, join(directory, "nephos")] }).spawn().status;
  await Deno.writeFile(join(directory, "vmlinux"), pvhElf(HALT));
  await Deno.writeFile(join(directory, "selftest.elf"), pvhElf(POWER_OFF));
  for (const { language, text } of blocks) {
    const name = language === "json" ? "deno.json" : /^\/\/ (\S+\.ts)\n/.exec(text)?.[1];
    if (name !== undefined) await Deno.writeTextFile(join(directory, name), text);
  }
  return { directory, [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }) };
}

async function shell(directory: string, commands: string): Promise<{ output: string; errors: string }> {
  const { stdout, stderr } = await new Deno.Command("sh", {
    args: ["-ec", commands],
    cwd: directory,
    env: { PATH: `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  return { output: new TextDecoder().decode(stdout), errors: new TextDecoder().decode(stderr) };
}

for (const { commands, output } of commandsOf(blocks)) {
  const name = commands.trimEnd().split("\n").at(-1)!;
  testWith({ kvm: true, commands: ["sh"] }, `docs/embedding.md: ${name}`, async () => {
    await using project = await makeProject();
    const result = await shell(project.directory, commands);
    assert.equal(result.output, output, result.errors);
    assert.ok(!await exists(join(project.directory, "vm.sock")), "The socket is left behind");
  });
}

testWith({ commands: ["sh"] }, "docs/embedding.md: its programs have the right types", async () => {
  await using project = await makeProject();
  const { output, errors } = await shell(project.directory, "deno check --quiet *.ts && echo fine");
  assert.equal(output, "fine\n", errors);
});

testWith({ root: true, commands: ["unshare", "mount"] }, "without KVM a boot says why it fails", async () => {
  await using project = await makeProject();
  // A /dev with nothing in it but what a program needs to start.
  const { output, errors } = await shell(
    project.directory,
    `unshare -m sh -ec '
      mkdir dev; mount -t tmpfs none dev
      for name in null zero random urandom; do touch dev/$name; mount --bind /dev/$name dev/$name; done
      mount --rbind dev /dev
      deno run -A boot.ts 2>&1 || true'`,
  );
  const chain =
    `vm.boot failed with status 500: Error from API: The VM could not boot: Cannot use the host's KVM: ` +
    `Cannot open "/dev/kvm": No such file or directory (os error 2)`;
  assert.ok(output.includes(chain), output + errors);
});

testWith({ kvm: true }, "VMMs in one process give back what they held", async () => {
  await using project = await makeProject();
  const script = join(ROOT, "tests", "integration", "embedding_rounds.ts");
  const { output, errors } = await shell(
    project.directory,
    `deno run -A --no-check --config ${join(ROOT, "deno.json")} ${script} vmlinux selftest.elf vm.sock`,
  );
  assert.equal(output, "all given back\n", errors);
});

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
