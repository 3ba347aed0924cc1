/**
 * Compares our OpenAPI document with the recorded facts of the original's, both ways.
 *
 * A check of `deno task ok`. Differences that are meant are listed with their reason in `schemas/openapi_deviations.ts`.
 * `--record FILE` records the facts anew from the original's document, converted to JSON.
 *
 * @module
 */

import { join } from "node:path";
import { type JsonObject, openApiDocument } from "@schemas/openapi.ts";
import { OPENAPI_DEVIATIONS } from "@schemas/openapi_deviations.ts";
import { compareFacts, factsOf, judge, type OpenApiFacts } from "@schemas/openapi_facts.ts";
import { report, ROOT } from "./source_tree.ts";

const GOLDEN = join(ROOT, "tests", "golden", "openapi_facts.json");

if (import.meta.main) {
  const [option, file] = Deno.args;
  if (option === "--record") {
    const document: JsonObject = JSON.parse(await Deno.readTextFile(file));
    await Deno.writeTextFile(GOLDEN, JSON.stringify(factsOf(document), null, 1) + "\n");
  }
  const theirs: OpenApiFacts = JSON.parse(await Deno.readTextFile(GOLDEN));
  const differences = compareFacts(theirs, factsOf(openApiDocument()));
  const { unexplained, stale } = judge(differences, OPENAPI_DEVIATIONS);
  const violations = [
    ...unexplained.map(({ at, theirs, ours }) => `${at}: the original says ${theirs}, we say ${ours}`),
    ...stale.map(({ at }) => `schemas/openapi_deviations.ts: "${at}" explains no difference`),
  ];
  report(
    "openapi",
    violations,
    `${Object.keys(theirs).length} facts compared, ${differences.length} differ as listed`,
  );
}
