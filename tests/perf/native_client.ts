/**
 * A client of the REST API that is no second runtime: builds and runs `api_client.c`.
 *
 * Measurements only.
 *
 * @module
 */

const NS_PER_US = 1_000;

/** Requests of one run of the client. */
export interface ClientRun {
  readonly socket: string;
  readonly endpoint: string;
  /** Requests that are timed. */
  readonly count: number;
  /** Requests before them that are not. */
  readonly warmUp: number;
  /** A new connection for each. */
  readonly isNew: boolean;
  /** Ahead of everything else on the machine. */
  readonly isFirst?: boolean;
}

/** The built client. */
export class NativeClient {
  private constructor(private readonly path: string) {}

  /** Builds it in `directory`. @throws Error without a C compiler */
  static async build(directory: string): Promise<NativeClient> {
    const path = `${directory}/api_client`;
    const source = new URL("api_client.c", import.meta.url).pathname;
    const compiler = new Deno.Command(Deno.env.get("CC") ?? "cc", { args: ["-O2", "-o", path, source] });
    const { success } = await compiler.output();
    if (!success) throw new Error("The client cannot be built: is a C compiler there?");
    return new NativeClient(path);
  }

  /** Times requests one after another; microseconds for each. @throws Error when one is not answered by 200 */
  async run({ socket, endpoint, count, warmUp, isNew, isFirst = false }: ClientRun): Promise<number[]> {
    const command = [this.path, socket, endpoint, String(count), String(warmUp), isNew ? "1" : "0"];
    const [program, ...args] = isFirst ? ["chrt", "--rr", "1", ...command] : command;
    const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout).trim().split("\n").map((ns) => Number(ns) / NS_PER_US);
  }
}
