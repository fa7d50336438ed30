//! Help texts: the examples and notes that follow the options in `--help`.

pub(super) const ENVIRONMENT: &str = "\
Environment: PMX_SERVER, PMX_SPACE, PMX_TOKEN (or PATHMX_PUBLISH_TOKEN), PMX_DATA, PMX_CACHE, NO_COLOR.
A flag wins over the environment, which wins over pmx.toml, which wins over the user's config.toml.";

pub(super) const LONG_HELP: &str = "\
Examples:
  pmx dev site           a live site on this machine, republished as files change
  pmx sync dist          publish a folder; prints the address
  pmx diff dist          what that would change
  pmx rollback           back to the deploy before
  pmx explain E_CONFLICT what an error means and what to do

Environment:
  PMX_SERVER             address of the server (default http://127.0.0.1:8787)
  PMX_SPACE              name of the site
  PMX_TOKEN              the server's publish secret (also PATHMX_PUBLISH_TOKEN)
  PMX_CACERT             file of the authorities whose certificates are accepted
  PMX_DATA               data folder of the embedded host
  PMX_CACHE              cache folder; it can be deleted at any time
  NO_COLOR               no colours, whatever the value

A flag wins over the environment, which wins over pmx.toml (looked for upward from here),
which wins over config.toml in the user's configuration folder.

Exit codes: 0 done, 1 other, 2 usage, 3 source, 4 not authorised, 5 network, 6 conflict,
7 integrity, 8 limit, 9 nothing to change (only with --exit-code), 130 interrupted.";

pub(super) const SYNC_EXAMPLES: &str = "\
Examples:
  pmx sync                             publish `dir` of pmx.toml, or .pathmx
  pmx sync dist --space docs -m \"v2\"   publish dist as docs
  pmx sync dist --dry-run              only tell what would happen
  pmx sync dist --max-delete 10%       refuse to remove more than a tenth of the files
  pmx sync dist --expect 12            refuse if deploy 12 is not the active one any more
  pmx sync dist --preview pr-7         publish beside the active deploy, as pr-7--docs
  pmx sync dist --preview pr-7 --expires 7d   the same, for a week
  url=$(pmx sync dist)                 stdout is the address, alone";

pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  pmx diff dist      what `pmx sync dist` would change
  pmx diff 11 12     what changed from deploy 11 to deploy 12";

pub(super) const RULES_EXAMPLES: &str = "\
Examples:
  pmx rules dist                                    list errors and warnings, with their lines
  pmx rules test /old --dir dist                    which line answers, and with what
  pmx rules test / --dir dist -H 'Accept-Language: de'";

pub(super) const BENCH_EXAMPLES: &str = "\
Nothing leaves this machine, and neither folder is written to. pmx publishes to a host in a temporary
folder; git, restic, casync and rsync do the same if they are installed; the rest is computed.

Examples:
  pmx bench old new                    what the step from old to new costs, by each way
  pmx bench old new --only pmx,rsync   by these two
  pmx bench old new --svg cost.svg     and draw it";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Each point says what it saw: ok, failed, or skipped and why; exit code 1 if one failed. With a token it
publishes small sites to spaces of their own, which stay there, as all deploys do.

Examples:
  pmx doctor --cloudflare https://api.example.com
  pmx doctor --cloudflare https://api.example.com --mib 100             two publishers of 100 MiB each
  pmx doctor --cloudflare https://api.example.com --redeploy            while the Worker is deployed again
  pmx doctor --cloudflare http://127.0.0.1:8787 --data target/worker-data     the Worker on this machine";

pub(super) const DOMAIN_EXAMPLES: &str = "\
A TXT record _pmx.HOST proves that the host is yours; `add` prints it. It is looked up again each day, and a
host whose record is gone shows the site for three more days. docs/domains.md has the way of the requests.

Examples:
  pmx domain add docs.example.com --space docs     print the record that proves it
  pmx domain check docs.example.com --space docs   look the record up now
  pmx domain list --space docs                     which hosts show the site
  pmx domain rm docs.example.com --space docs      show nothing there any more";

pub(super) const RETENTION_EXAMPLES: &str = "\
A deploy stays if one rule keeps it. The active deploy, those that previews show, pinned ones, and those
whose assets open pages may still ask for stay in any case. The rules given replace the whole policy.

Examples:
  pmx retention --space docs                                 show the policy
  pmx retention --space docs --keep-last 10 --keep-within 30d
  pmx retention --space docs --never                         keep every deploy
  pmx gc --space docs --dry-run                              what the policy gives up
  pmx deploys pin 12 --space docs                            keep deploy 12, whatever the policy says";

pub(super) const BACKUP_EXAMPLES: &str = "\
Publishing and collecting go on. Each file is checked by its hash before it is kept, and the snapshot is
written last. A deploy that is given up while the backup runs is left out, with a warning.

Examples:
  pmx backup /backups/pmx --space docs     the first one, and each later one: what is new
  pmx backup /backups/pmx --all            every space of the server
  pmx backup /backups/pmx --check          read it all, and compare it with its hashes";

pub(super) const RESTORE_EXAMPLES: &str = "\
The space must have no deploys, or only those of an interrupted restore. The whole snapshot is checked by
its hashes first. Deploys keep their numbers, unless an earlier space of the name had them.

Examples:
  pmx restore /backups/pmx --space docs
  pmx restore /backups/pmx --space docs-copy --from docs
  pmx restore /backups/pmx --space docs --snapshot 12
  pmx restore /backups/pmx --space docs --server https://api.example.com";

pub(super) const STREAM_TOKEN_EXAMPLES: &str = "\
The key is the first of STREAM_TOKEN_KEYS (a list with commas, 32 bytes or more each), as the server
has it in its environment. If that is not set, it is made of STREAM_SECRET. Any library for JSON Web
Tokens makes the same: HS256, header {\"alg\":\"HS256\",\"typ\":\"JWT\"}, claims sub (name or
pattern), scope, exp; nbf, iat and jti if you like.

Examples:
  pmx stream-token --stream chat/42 --scope read --expires 1h
  pmx stream-token --stream 'chat/*' --scope 'read write' --expires 30m --id alice
  pmx stream-token --stream 'jobs/*' --scope 'read claim'      for a worker that pulls
  curl -H \"Authorization: Bearer $(pmx stream-token --stream a --scope read)\" …/v1/stream/a";
