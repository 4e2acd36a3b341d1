// Accounts and orders: what is decided, and what has to be unique.

import { SQL } from '@event-driven-io/dumbo';
import { IllegalStateError, ValidationError } from '@event-driven-io/emmett';
import { postgreSQLRawSQLProjection } from '@event-driven-io/emmett-postgresql';

const EMAIL = /^[^@\s]+@[^@\s]+\.[^@\s]+$/;
const USERNAME = /^[a-z0-9._-]{2,32}$/;
const CURRENCIES = ['EUR', 'GBP', 'USD'];

const text = (value) => String(value ?? '').trim().toLowerCase();

const isCount = (value, least) => Number.isSafeInteger(value) && value >= least;

export const account = {
  initialState: () => ({ isRegistered: false }),
  evolve: (state, { type }) => (type === 'account.registered' ? { isRegistered: true } : state),
};

export const register = (state, { id, email, username }) => {
  if (state.isRegistered) throw new IllegalStateError('The account is already registered');
  const data = { id, email: text(email), username: text(username) };
  if (!EMAIL.test(data.email)) throw new ValidationError('This is not an email address');
  if (!USERNAME.test(data.username)) throw new ValidationError('This is not a username');
  return { type: 'account.registered', data };
};

export const order = {
  initialState: () => ({ isPlaced: false }),
  evolve: (state, { type }) => (type === 'order.placed' ? { isPlaced: true } : state),
};

export const place = (state, { id, account_id, quantity, amount_cents, currency }) => {
  if (state.isPlaced) throw new IllegalStateError('The order is already placed');
  if (!isCount(quantity, 1) || !isCount(amount_cents, 0) || !CURRENCIES.includes(currency))
    throw new ValidationError('This is not an order');
  return { type: 'order.placed', data: { id, account_id, quantity, amount_cents, currency } };
};

// In the transaction that appends the event, as the library has it: a value that is taken undoes both.
export const claims = postgreSQLRawSQLProjection({
  name: 'claims',
  canHandle: ['account.registered'],
  init: () => SQL`
    create table if not exists claims (
      account  uuid primary key,
      email    text not null unique,
      username text not null unique
    )`,
  evolve: ({ data: { id, email, username } }) =>
    SQL`insert into claims (account, email, username) values (${id}, ${email}, ${username})`,
});
