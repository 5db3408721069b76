// What peer.c is for libpq, for pg: node peer.js CONNINFO. That one's header says what goes in and out.
'use strict';

const { Client } = require('pg');
const REPORT = '\\report ';

const given = {};
for (const [, key, value] of process.argv[2].matchAll(/(\w+)='((?:[^'\\]|\\.)*)'/g))
  given[key] = value.replace(/\\(.)/g, '$1');

const client = new Client({
  host: given.host,
  port: Number(given.port),
  database: given.dbname,
  user: given.user || require('os').userInfo().username,
  application_name: given.application_name,
  options: given.options,
});
let text = '(none)';
let gone = false;

const put = (line) => process.stdout.write(line + '\n');
const putAllotment = () => put('allotment:' + text + '\n.');

client.connection.on('parameterStatus', (message) => {
  if (message.parameterName === 'pgpool_monitor.allotment') text = message.parameterValue;
});
client.on('error', () => { gone = true; });
client.on('end', () => { gone = true; });

async function run(line) {
  const query = line.startsWith(REPORT)
    ? { text: "SELECT pg_catalog.set_config('pgpool_monitor.report', $1, false)", values: [line.slice(REPORT.length)] }
    : { text: line };
  try {
    // values as the server writes them
    const all = await client.query({ ...query, rowMode: 'array', types: { getTypeParser: () => (value) => value } });
    const last = Array.isArray(all) ? all[all.length - 1] : all;
    if (last.fields.length === 0) return 'result:' + (last.command || '');
    return 'result:' + (last.rows.length ? last.rows[last.rows.length - 1][0] ?? '' : '');
  } catch (error) {
    return error.code && !gone ? `error:${error.code} ${error.message}` : 'error:gone';
  }
}

(async () => {
  try {
    await client.connect();
  } catch (error) {
    put(`error:${error.message}\n.`);
    process.exit(1);
  }
  put('result:' + client.processID);
  putAllotment();
  for await (const line of require('readline').createInterface({ input: process.stdin })) {
    put(await run(line));
    putAllotment();
  }
  await client.end();
})();
