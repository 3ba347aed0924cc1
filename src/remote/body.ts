/**
 * What request bodies are made with: JSON with exact integers, and error contexts.
 *
 * L6, pure, no zod: fields are written in the order of the parameter tables, as the original sends them.
 */
import type { RestoreConfig } from "@schemas/api/migration.ts";
import { OptionError } from "@vmm/cli/option_error.ts";
import { ContextError } from "@vmm/errors/context_error.ts";

/** A body and the descriptors that go with the request. */
export interface RemoteBody {
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly fds: readonly number[];
}

/** JSON with exact 64-bit integers; `undefined` is left out, a false `iommu` too. */
export function writeBody(value: unknown): string {
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map(writeBody).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).filter(([key, item]) =>
    item !== undefined && !(key === "iommu" && item === false)
  );
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${writeBody(item)}`).join(",")}}`;
}

/** A JSON body with its descriptors. */
export function json(value: unknown, fds: readonly number[] = []): RemoteBody {
  return { body: new TextEncoder().encode(writeBody(value)), fds };
}

/** Puts `label` above what `read` throws. */
export function under<T>(label: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new ContextError([label], error);
  }
}

/** An error whose chain is `messages`, outermost first; at least one. */
export function nested([first, ...rest]: readonly string[]): Error {
  return rest.length === 0 ? OptionError.rule(first) : new ContextError([first], nested(rest));
}

/** Descriptors named beside a VM that moves here. */
export interface HandedDescriptors {
  readonly vfio_fds?: readonly { readonly fd?: number }[];
  readonly iommufd_fd?: number;
}

/** The descriptors in the order the server takes them. */
export function handedFds({ vfio_fds = [], iommufd_fd }: HandedDescriptors): number[] {
  return [...vfio_fds.map(({ fd }) => fd), iommufd_fd].filter((fd) => fd !== undefined);
}

/** Entries without their descriptors, which travel beside the body. */
export function withoutFds(entries: RestoreConfig["vfio_fds"]): { id: string; fd: null }[] | null {
  return entries?.map(({ id }) => ({ id, fd: null })) ?? null;
}
