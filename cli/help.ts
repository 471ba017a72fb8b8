/**
 * What `walrus help` says.
 *
 * @module
 */

/** The package's version, as in deno.json. */
export const VERSION = "0.1.0";

/** All commands at a glance. */
const OVERVIEW = `
walrus: a write-ahead log on the command line

    walrus append DIR [FILE…]   append lines to the log in DIR
    walrus dump DIR             print its entries
    walrus stat DIR             say what it is made of
    walrus verify DIR           read all of it and say what is wrong
    walrus repair DIR           say what can be done about it, or do it
    walrus truncate DIR         take entries away from its end or its front
    walrus consumers DIR        list its consumers, or take one away
    walrus help [COMMAND]       explain a command
    walrus --version            print the version

dump, stat, verify and the list of consumers change nothing and need no lock,
and neither does repair before it is told what to do. While a program writes to
the log they show it as it was a moment ago; dump --follow goes on with it.

Exit codes: 0 all is well; 1 the log is damaged, or does not have what was
asked for, or a line was refused, or an answer was not yes; 2 wrong use; 3 a log or file is not there, not ours, in use or not readable;
130 and 143 ended by SIGINT and SIGTERM, after closing the log.
`;

const APPEND = `
walrus append DIR [FILE…]

Makes every line of the files an entry, in order; of standard input if there
is no file or its name is "-". Makes the log if there is none. Lines end with
\\n and are taken byte by byte, so that a \\r before it stays; what follows the
last \\n is a line, too. A line longer than 16 MiB is refused; all before it
are in the log.

    --batch N             N lines at a time, each N all or nothing (1)
    --sync MODE           always: made durable as they come, and what cannot
                          be synced is not taken (default); interval: every
                          second; never: at the end
    --format NAME         binary or json, for a new log (binary)
    --segment-bytes N     size of a new segment (67108864)
    --storage NAME        mapped or files (mapped where FFI is granted)

Says at the end on standard error how many entries were appended. ^C ends it
well: all lines read until then are in the log.
`;

const DUMP = `
walrus dump DIR

Prints the data of the entries, each followed by \\n.

    --json                one JSON object a line, with index, term, timestamp,
                          and the data as text or base64
    --from N, --to N      only the entries from N to N; from also "start" or
                          "end", which is behind the last one there is now
    --since TIME          begin with the first entry, in the log's order, of
                          that time or a later one: 2026-11-22T23:06:15Z, with
                          up to nine digits behind the second; without a zone
                          the time here; a date is its first moment; or
                          nanoseconds since 1970. Found without a scan
    --term N              begin with the first entry of that term or a higher
                          one; of several beginnings the last one counts
    --limit N             at most N entries
    --follow              go on with what is appended, as tail -f does, until
                          ^C, --to or --limit. Each entry is printed as it
                          comes, and none is left out: if one that is next, or
                          was printed, is taken away, that is an error
    --reverse             begin at the end
    --salvage             of a damaged log, print all that can be read; what
                          is lost is said on standard error, exit code 1
    --storage NAME        mapped or files
`;

const STAT = `
walrus stat DIR

Prints format, entries and segments, and how opening would find the log.

    --json                as one JSON object
    --storage NAME        mapped or files
`;

const VERIFY = `
walrus verify DIR

Reads every byte of the log and says what is wrong, each finding with its
file, offset and the entries lost, what it means, and what to do next:

    damage                bytes that were made durable have changed
    torn                  an unfinished write, as a crash leaves it: nobody was
                          promised it, and the next opening cuts it
    index                 an index, footer or spare header is wrong; all
                          entries can still be read

Exit codes: 0 sound, or torn only; 1 damage, or a wrong index; 3 not readable
or not a log.

    --json                as one JSON object
    --storage NAME        mapped or files
`;

const REPAIR = `
walrus repair DIR [REMEDY]

Reads the log as verify does, and says what is wrong and what can be done:
what each remedy would keep, what it would lose, and where it would keep what
it takes out. Without a remedy nothing is changed. With one it asks first, on a
terminal; elsewhere it needs --yes. A copy of the damaged folder made before
never hurts.

    --index               make indexes, footers and spare headers again from
                          the frames: loses nothing
    --manifest            make a lost manifest again from the segments, where
                          they tell it with certainty: loses nothing
    --cut                 end the log before its first damage, so that it can
                          be written again. What is cut, readable or not, is
                          kept in DIR/cut/TIME: later segments as they are, and
                          a copy of the bytes behind the cut
    --salvage NEWDIR      write all entries that can be read into a new log in
                          NEWDIR, which is missing or empty, and leave DIR as
                          it is. Data, terms, times, transactions and batches
                          are kept; indexes up to the first gap, too. A log has
                          no gaps: entries behind one move down, and
                          NEWDIR/salvage.json says where each went
    --yes                 do it without asking
    --json                as one JSON object
    --storage NAME        mapped or files

One remedy at a time, under the writer's lock. Each may be asked for again: it
goes on where a crash cut it off, and does nothing where nothing is to be done.

Exit codes: 0 nothing is to be done, or it is done; 1 something is to be done,
or is left, or cannot be done; 2 wrong use, or nobody to ask and no --yes;
3 not readable, not a log, in use, or NEWDIR is not empty.
`;

const TRUNCATE = `
walrus truncate DIR --after N | --before N

Takes entries away, which cannot be undone: those above N, or those below N.
Says which ones, and what it means to consumers, and asks first, on a terminal;
elsewhere it needs --yes. An emptied log goes on with the next index. Needs the
writer's lock, and opens the log as a program does: torn bytes are cut.

    --after N             drop the entries above N; N is between the entry
                          before the first and the last one
    --before N            drop the entries below N, at most to behind the last
                          one; their space is given back by whole segments
    --yes                 do it without asking
    --json                as one JSON object
    --storage NAME        mapped or files

Exit codes: 0 they are gone, or there were none; 1 N is out of these bounds,
the log is damaged, or the answer was not yes; 2 wrong use, or nobody to ask and
no --yes; 3 not readable, not a log, or in use.
`;

const CONSUMERS = `
walrus consumers DIR

Lists the consumers of the log: the last entry that each has acknowledged, and
how many entries are behind it. Retention never passes a consumer: one that
nobody uses any more keeps the log from being tidied up.

    --remove NAME         take this consumer away, sound or damaged; its
                          position is lost, and a new one of the name begins
                          anew. Asks first, on a terminal. The log must not be
                          in use
    --yes                 do it without asking
    --json                as one JSON object
    --storage NAME        mapped or files

Exit codes: 0 all can be read, or it is removed; 1 one cannot be read, or the
answer was not yes; 2 wrong use, or nobody to ask and no --yes; 3 not readable,
not a log, in use, or no such consumer.
`;

/** Help by command; "" is the overview. */
export const HELP: Readonly<Record<string, string>> = {
  "": OVERVIEW,
  append: APPEND,
  consumers: CONSUMERS,
  dump: DUMP,
  help: OVERVIEW,
  repair: REPAIR,
  stat: STAT,
  truncate: TRUNCATE,
  verify: VERIFY,
};
