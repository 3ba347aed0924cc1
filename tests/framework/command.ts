/**
 * Runs host commands for tests.
 *
 * Test framework.
 *
 * @module
 */

/** Runs a command to its end. @returns its standard output @throws Error with its standard error if it fails */
export async function run(program: string, ...args: string[]): Promise<string> {
  const { success, code, stdout, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (!success) {
    throw new Error(`"${program} ${args.join(" ")}" ended with ${code}: ${decode(stderr).trim()}`);
  }
  return decode(stdout);
}

/** True if the program can be found. */
export async function hasCommand(program: string): Promise<boolean> {
  const { success } = await new Deno.Command("sh", {
    args: ["-c", 'command -v "$1" || [ -x "/usr/sbin/$1" ]', "sh", program],
    stdout: "null",
  }).output();
  return success;
}
