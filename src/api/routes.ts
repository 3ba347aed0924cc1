/**
 * The REST paths: method, body and descriptors of each operation, as one light table.
 *
 * L6, main isolate, no zod: `vmm.ping` is answered before the schemas are loaded. Schemas and documentation of the same
 * endpoints are in `schemas/api/endpoints.ts`; a test compares the two. Source: spec/rest-api.md §1.2, §2, spec/observed.md.
 */
import type { OperationName } from "./command.ts";

/** Prefix of every path. */
export const API_ROOT = "/api/v1/";

/** How an endpoint takes its body. */
export type BodyRule = "ignored" | "forbidden" | "required";

/** One endpoint. */
export interface Route {
  readonly operation: OperationName;
  readonly method: "GET" | "PUT";
  readonly body: BodyRule;
  /** Status of an answer without contents. */
  readonly emptyStatus: 200 | 204;
  /** Whether PATCH and DELETE are answered by an empty 400 instead of one with a message. */
  readonly silentOnOtherMethods: boolean;
  /** Whether a missing body is answered by an empty 400 instead of one with a message. */
  readonly silentOnMissingBody: boolean;
}

const get = (operation: OperationName, silentOnOtherMethods: boolean): Route => ({
  operation,
  method: "GET",
  body: "ignored",
  emptyStatus: 204,
  silentOnOtherMethods,
  silentOnMissingBody: false,
});
const put = (operation: OperationName, body: BodyRule, special: Partial<Route> = {}): Route => ({
  operation,
  method: "PUT",
  body,
  emptyStatus: 204,
  silentOnOtherMethods: true,
  silentOnMissingBody: false,
  ...special,
});

/** Every endpoint, in the order of the documentation. */
export const ROUTES: readonly Route[] = [
  get("vmm.ping", false),
  put("vmm.shutdown", "ignored", { emptyStatus: 200, silentOnOtherMethods: false }),
  get("vm.info", false),
  get("vm.counters", true),
  put("vm.create", "required", { silentOnOtherMethods: false, silentOnMissingBody: true }),
  put("vm.delete", "forbidden"),
  put("vm.boot", "forbidden"),
  put("vm.pause", "forbidden"),
  put("vm.resume", "forbidden"),
  put("vm.shutdown", "forbidden"),
  put("vm.reboot", "forbidden"),
  put("vm.power-button", "forbidden"),
  put("vm.nmi", "forbidden"),
  put("vm.resize", "required"),
  put("vm.resize-disk", "required"),
  put("vm.resize-zone", "required"),
  put("vm.add-device", "required"),
  put("vm.add-user-device", "required"),
  put("vm.add-disk", "required"),
  put("vm.add-fs", "required"),
  put("vm.add-generic-vhost-user", "required"),
  put("vm.add-net", "required"),
  put("vm.add-pmem", "required"),
  put("vm.add-vdpa", "required"),
  put("vm.add-vsock", "required"),
  put("vm.remove-device", "required"),
  put("vm.snapshot", "required"),
  put("vm.restore", "required"),
  put("vm.coredump", "required"),
  put("vm.receive-migration", "required"),
  put("vm.send-migration", "required"),
];

/** Route of each operation. */
export const ROUTE_OF_OPERATION: ReadonlyMap<OperationName, Route> = new Map(
  ROUTES.map((route) => [route.operation, route]),
);

/** Route of each full path. */
export const ROUTE_OF_PATH: ReadonlyMap<string, Route> = new Map(
  ROUTES.map((route) => [API_ROOT + route.operation, route]),
);
