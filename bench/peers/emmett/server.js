// Emmett and its PostgreSQL event store behind node's own HTTP server: the same two commands as Headwater's.

import cluster from 'node:cluster';
import { createServer } from 'node:http';

import { CommandHandler, IllegalStateError, ValidationError, projections } from '@event-driven-io/emmett';
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';
import pg from 'pg';

import { account, claims, order, place, register } from './shop.js';

const { DATABASE_URL, HEADWATER_LISTEN: LISTEN, WORKERS = '2', CONNECTIONS = '32' } = process.env;
const [host, port] = LISTEN.split(':');

const openStore = (connections) =>
  getPostgreSQLEventStore(DATABASE_URL, {
    projections: projections.inline([claims]),
    // The tables are made before there are workers, which would get in each other's way.
    schema: { autoMigration: 'None' },
    connectionOptions: { pool: new pg.Pool({ connectionString: DATABASE_URL, max: connections }) },
  });

const BODY_BYTES_MAX = 65_536;

const readJson = async (request) => {
  let body = '';
  for await (const chunk of request.setEncoding('utf8')) {
    body += chunk;
    if (body.length > BODY_BYTES_MAX) throw new ValidationError('The body is too large');
  }
  try {
    return JSON.parse(body);
  } catch {
    throw new ValidationError('The body is not JSON');
  }
};

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const REGISTER = new RegExp(`^/accounts/(${UUID})/register$`);
const PLACE = new RegExp(`^/orders/(${UUID})/place$`);

const serve = (store) => {
  const handleAccount = CommandHandler(account);
  const handleOrder = CommandHandler(order);

  const answer = async (request) => {
    const { method, url } = request;
    if (url === '/health/ready') return [200, 'ready'];
    const registers = method === 'POST' && REGISTER.exec(url);
    const places = method === 'POST' && PLACE.exec(url);
    if (registers) {
      const [, id] = registers;
      const command = { ...(await readJson(request)), id };
      await handleAccount(store, `account-${id}`, (state) => register(state, command));
      return [201, { id, events: ['account.registered'] }];
    }
    if (places) {
      const [, id] = places;
      const command = { ...(await readJson(request)), id };
      const { state } = await store.aggregateStream(`account-${command.account_id}`, account);
      if (!state.isRegistered) throw new IllegalStateError('Only an active account can place an order');
      await handleOrder(store, `order-${id}`, (state) => place(state, command));
      return [201, { id, events: ['order.placed'] }];
    }
    return [404, 'no such command'];
  };

  const server = createServer((request, response) =>
    answer(request)
      .catch((error) => {
        if (error instanceof ValidationError) return [400, error.message];
        if (error instanceof IllegalStateError) return [422, error.message];
        // Emmett's own errors have one; of Postgres's, a value that is taken is 23505.
        if (error.errorCode === 412 || error.code === '23505') return [409, 'taken'];
        console.error(error);
        return [503, 'not available'];
      })
      .then(([status, body]) => {
        const text = JSON.stringify(body);
        response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
        response.end(text);
      }),
  );
  // The bench keeps its connections for longer than any load takes.
  server.keepAliveTimeout = 120_000;
  server.listen(Number(port), host);
};

if (cluster.isPrimary) {
  const store = openStore(1);
  await store.schema.migrate();
  for (let worker = 0; worker < Number(WORKERS); worker++) cluster.fork();
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGTERM');
    process.exit(0);
  });
} else {
  serve(openStore(Math.ceil(Number(CONNECTIONS) / Number(WORKERS))));
}
