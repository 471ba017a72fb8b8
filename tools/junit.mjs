/**
 * Reads the JUnit reports of `deno test`, `bun test` and `node --test`, which
 * agree on little more than the tag names.
 */

/**
 * The tests of a report: `{ name, outcome, reason }` with the outcome
 * "passed", "failed" or "skipped". The name is the path of titles, joined by
 * " > ". Suites are not tests; Deno, which reports a suite as a test with
 * steps, is brought in line by `withoutContainers`.
 */
export function parseReport(xml) {
  const tests = [];
  const suites = [];
  let test;
  const tags =
    /<(\/?)(testsuite|testcase|failure|error|skipped)\b((?:"[^"]*"|[^">])*)>/g;
  for (const [, closing, tag, rest] of xml.matchAll(tags)) {
    const selfClosing = rest.endsWith("/");
    if (tag === "testsuite") {
      if (closing) suites.pop();
      else if (!selfClosing) suites.push(attribute(rest, "name"));
    } else if (tag === "testcase") {
      if (closing) continue;
      test = {
        name: [...suites, attribute(rest, "name")]
          .filter((part) => !isFileName(part)).join(" > "),
        outcome: "passed",
        reason: "",
      };
      // A test without a name stands for a whole file: it is none.
      if (test.name !== "") tests.push(test);
    } else if (!closing && test !== undefined) {
      test.outcome = tag === "skipped" ? "skipped" : "failed";
      const message = attribute(rest, "message");
      // Node writes `message="true"` where no reason was given.
      test.reason = message === "true" ? "" : message;
    }
  }
  return tests;
}

/**
 * Leaves out the tests that only contain others. One that failed while none
 * of its parts did (a hook threw) stays.
 */
export function withoutContainers(tests) {
  return tests.filter((test) => {
    const parts = tests.filter((other) =>
      other.name.startsWith(`${test.name} > `)
    );
    if (parts.length === 0) return true;
    return test.outcome === "failed" &&
      !parts.some((part) => part.outcome === "failed");
  });
}

// Deno and Bun wrap each file in a suite that bears its name; Node reports a
// file that registered no test as one test of that name.
function isFileName(name) {
  return /\.ts$/.test(name);
}

function attribute(text, name) {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(text)?.[1] ?? "";
  return value.replace(/&(#?\w+);/g, (whole, entity) => {
    if (entity.startsWith("#x")) {
      return String.fromCodePoint(parseInt(entity.slice(2), 16));
    }
    if (entity.startsWith("#")) return String.fromCodePoint(+entity.slice(1));
    return ENTITIES[entity] ?? whole;
  });
}

const ENTITIES = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };
