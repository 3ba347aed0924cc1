/**
 * The completion scripts in the shells they are for.
 *
 * @module
 */
import assert from "node:assert/strict";
import { parseCommandLine } from "@vmm/cli/command_line.ts";
import { hasCommand, run } from "@tests/framework/command.ts";

async function script(shell: string): Promise<string> {
  const result = await parseCommandLine(["completion", shell], "nephos");
  assert(result.kind === "print");
  return result.text;
}

async function withScript(shell: string, body: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(path, await script(shell));
    await body(path);
  } finally {
    await Deno.remove(path);
  }
}

const hasBash = await hasCommand("bash");
const hasFish = await hasCommand("fish");
const hasZsh = await hasCommand("zsh");

/** A test that needs `shell`, and says so where there is none. */
function shellTest(shell: string, present: boolean, name: string, fn: () => Promise<void>): void {
  Deno.test({ name: present ? name : `${name} (skipped: no ${shell})`, ignore: !present, fn });
}

shellTest(
  "bash",
  hasBash,
  "bash completes options, parameters and sub-commands",
  () =>
    withScript("bash", async (path) => {
      const complete = async (...words: string[]) => {
        const name = words[0] === "ch-remote" ? "_nephos_remote" : "_nephos";
        const code = `source "$1"; shift; compopt() { :; }
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ${name}; echo "\${COMPREPLY[*]}"`;
        return (await run("bash", "-c", code, "bash", path, ...words)).trim();
      };
      assert.equal(await complete("nephos", "--ker"), "--kernel");
      assert.equal(await complete("nephos", "--serial", ""), "off pty tty null file= socket=");
      assert.equal(await complete("nephos", "--disk", "path=a,reado"), "path=a,readonly=");
      assert.equal(await complete("nephos", "--disk", "path=a", "path=b,image"), "path=b,image_type=");
      assert.equal(await complete("nephos", "--disk", "path", "=", "a,readonly", "=", "o"), "on off");
      assert.equal(
        await complete("nephos", "--disk", "path", "=", "a,image_type", "="),
        "raw qcow2 vhd vhdx vmdk",
      );
      assert.equal(await complete("nephos", "--disk", "path", "=", "a,reado"), "a,readonly=");
      assert.equal(await complete("nephos", "--seccomp", "=", "e"), "errno");
      assert.equal(await complete("nephos", "--disk", "path", "=", path), path);
      assert.equal(await complete("nephos", "rem"), "remote");
      assert.equal(await complete("cloud-hypervisor", "--seccomp", "e"), "errno");
      assert.equal(await complete("nephos", "remote", "add-n"), "add-net");
      assert.equal(await complete("ch-remote", "power"), "power-button");
      assert.equal(await complete("ch-remote", "resize", "--m"), "--memory");
      assert.equal(await complete("nephos", "completion", ""), "bash zsh fish");
      assert.equal(await complete("nephos", "--conf"), "--config");
      assert.equal(await complete("cloud-hypervisor", "--conf"), "");
    }),
);

shellTest(
  "fish",
  hasFish,
  "fish completes options, parameters and sub-commands",
  () =>
    withScript("fish", async (path) => {
      const complete = async (line: string) =>
        (await run("fish", "--no-config", "-c", `source ${path}; complete -C '${line}'`)).split("\n").map((
          item,
        ) => item.split("\t")[0]);
      assert.deepEqual((await complete("nephos --ker")).slice(0, 1), ["--kernel"]);
      assert.ok((await complete("nephos --serial ")).includes("file="));
      assert.ok((await complete("ch-remote re")).includes("remove-device"));
      assert.ok((await complete("nephos remote add-n")).includes("add-net"));
      assert.deepEqual((await complete("nephos completion f")).slice(0, 1), ["fish"]);
      assert.deepEqual((await complete("nephos --disk path=a,reado")).slice(0, 1), ["path=a,readonly="]);
      assert.ok((await complete("ch-remote --api-socket s remo")).includes("remove-device"));
      assert.ok((await complete("ch-remote resize --m")).includes("--memory"));
      assert.ok((await complete("nephos remote --api-socket s resize --m")).includes("--memory"));
      assert.deepEqual(await complete("cloud-hypervisor --conf"), [""]);
    }),
);

/** Start of an interactive zsh that has read the script as the documentation says; `nephos` shows its arguments. */
const ZSH_START = (script: string) =>
  `PS1=READY; autoload -U compinit; compinit -D -u; source ${script}; nephos() { print -r -- "<$*>"; }`;

/** Types the line `$1` and a tabulator into it. */
const ZSH_TYPES = `zmodload zsh/zpty
zpty shell zsh -i
zpty -r -m shell output '*READY*'
zpty -w -n shell "$1"$'\\t\\n'
zpty -r -m shell output '*<*>*'
print -r -- "$output"`;

shellTest(
  "zsh",
  hasZsh,
  "zsh completes options, parameters and sub-commands",
  () =>
    withScript("zsh", async (path) => {
      const home = await Deno.makeTempDir();
      try {
        await Deno.writeTextFile(`${home}/.zshrc`, ZSH_START(path));
        const complete = async (line: string) => {
          const output = await run("env", `ZDOTDIR=${home}`, "zsh", "-f", "-c", ZSH_TYPES, "zsh", line);
          return /<(.*)>/.exec(output)?.[1].trim();
        };
        assert.equal(await complete("nephos rem"), "remote");
        assert.equal(await complete("nephos --ker"), "--kernel");
        assert.equal(await complete("nephos --conf"), "--config");
        assert.equal(await complete("nephos --serial soc"), "--serial socket=");
        assert.equal(await complete("nephos completion fi"), "completion fish");
        assert.equal(await complete("nephos remote power"), "remote power-button");
        assert.equal(
          await complete("nephos remote --api-socket s resize --m"),
          "remote --api-socket s resize --memory",
        );
        assert.equal(await complete("nephos --disk path=a,reado"), "--disk path=a,readonly=");
        assert.equal(await complete("nephos --disk=path=a,reado"), "--disk=path=a,readonly=");
      } finally {
        await Deno.remove(home, { recursive: true });
      }
    }),
);
