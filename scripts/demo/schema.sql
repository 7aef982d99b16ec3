-- The little shop of ./dev demo; the same on every shard. users, orders and order_items are sharded by the user's id,
-- so that one user's rows stand together; countries is a reference table, whole on every shard.
create table countries (code char(2) primary key, name text not null);
create table users (
  id bigint primary key,
  name text not null,
  country char(2) not null references countries
);
create table orders (
  user_id bigint not null references users,
  id bigint not null,
  placed date not null,
  total numeric(10, 2) not null default 0,
  primary key (user_id, id)
);
create table order_items (
  user_id bigint not null,
  order_id bigint not null,
  line int not null,
  product text not null,
  price numeric(10, 2) not null,
  primary key (user_id, order_id, line),
  foreign key (user_id, order_id) references orders (user_id, id)
);
insert into countries values ('AT', 'Austria'), ('BR', 'Brazil'), ('CA', 'Canada'), ('FR', 'France'), ('JP', 'Japan'), ('NG', 'Nigeria');
