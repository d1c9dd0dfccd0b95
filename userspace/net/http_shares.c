/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds how many connections, and who loses one when there are too many. See http_internal.h.
 *
 * A connection is fresh until its first request has reached the handler: until then nobody knows whose it is, it may
 * be silent on purpose, and it counts for its address. Fresh ones have a part of the room to themselves, and a
 * newcomer always gets in: the oldest fresh one of the address that holds most of them makes room. From its first
 * request on a connection counts for the user that the handler named, else for its address, and takes room among the
 * settled ones. When these are too many, who holds most loses one: the one that idled longest, else the stream begun
 * last, else the request come last. So whoever fills the server pays for it himself, and nobody who holds less is
 * turned away, not even from the same address. Loop thread. */
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>

#include "userspace/base/mem.h"
#include "userspace/net/http_internal.h"

struct http_owner {
	struct list link; /* shares->by_count[], by `n` */
	struct list conns[HTTP_ACTIVITIES];
	char *key;
	size_t key_n;
	unsigned n;
};

static void shares_init(struct http_shares *shares, unsigned max)
{
	shares->max = max;
	shares->by_count = mem_new_array(struct list, max + 1);
	for (unsigned i = 0; i <= max; i++)
		list_init(&shares->by_count[i]);
}

static void shares_finish(struct http_shares *shares)
{
	map_finish(&shares->owners);
	free(shares->by_count);
}

static struct http_owner *owner_of(struct http_shares *shares, struct str key)
{
	struct http_owner *owner = map_get(&shares->owners, key);

	if (owner)
		return owner;
	owner = mem_new(struct http_owner);
	list_init(&owner->link);
	for (int i = 0; i < HTTP_ACTIVITIES; i++)
		list_init(&owner->conns[i]);
	owner->key = str_dup(key);
	owner->key_n = key.n;
	map_put(&shares->owners, key, owner);
	return owner;
}

static void count(struct http_shares *shares, struct http_owner *owner, int by)
{
	unsigned rank;

	list_del(&owner->link);
	owner->n += (unsigned)by;
	shares->n += (unsigned)by;
	/* Before the shedding one may hold more than there is room for. */
	rank = owner->n < shares->max ? owner->n : shares->max;
	if (rank)
		list_add_tail(&shares->by_count[rank], &owner->link);
	if (rank > shares->greatest)
		shares->greatest = rank;
	while (shares->greatest && list_empty(&shares->by_count[shares->greatest]))
		shares->greatest--;
	if (owner->n)
		return;
	map_remove(&shares->owners, str_make(owner->key, owner->key_n));
	free(owner->key);
	free(owner);
}

/* Fresh ones are in order of their coming, whatever they do. */
static struct list *place_of(const struct http_conn *conn)
{
	return &conn->owner->conns[conn->shares == &conn->server->fresh ? 0 : conn->activity];
}

static void join(struct http_shares *shares, struct http_conn *conn, struct str key)
{
	conn->shares = shares;
	conn->owner = owner_of(shares, key);
	list_add_tail(place_of(conn), &conn->owned);
	count(shares, conn->owner, 1);
}

void shares_leave(struct http_conn *conn)
{
	if (!conn->owner)
		return;
	list_del(&conn->owned);
	count(conn->shares, TAKE_PTR(conn->owner), -1);
}

static struct http_conn *victim_of(const struct http_shares *shares)
{
	const struct http_owner *owner = list_first(&shares->by_count[shares->greatest], struct http_owner, link);

	if (!list_empty(&owner->conns[HTTP_IDLE]))
		return list_first(&owner->conns[HTTP_IDLE], struct http_conn, owned);
	if (!list_empty(&owner->conns[HTTP_STREAMING]))
		return list_entry(owner->conns[HTTP_STREAMING].prev, struct http_conn, owned);
	return list_entry(owner->conns[HTTP_BUSY].prev, struct http_conn, owned);
}

/* From the loop: who is shed hears of it by on_close. */
static void shed_settled(struct loop_defer *defer)
{
	struct http_server *server = container_of(defer, struct http_server, shed_defer);

	server->refs++;
	while (server->settled.n > server->settled.max)
		conn_shed(victim_of(&server->settled));
	server_unref(server);
}

/* A process may need as many descriptors again for what the requests are about. */
static unsigned connections_default(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur / 2 >= HTTP_CONNECTIONS_DEFAULT)
		return HTTP_CONNECTIONS_DEFAULT;
	return (unsigned)(files.rlim_cur / 2);
}

void server_shares_init(struct http_server *server)
{
	unsigned total, fresh;

	if (!server->limits.connections)
		server->limits.connections = connections_default();
	total = server->limits.connections < 2 ? 2 : server->limits.connections;
	fresh = total / HTTP_FRESH_PART ? total / HTTP_FRESH_PART : 1;
	server->limits.connections = total;
	shares_init(&server->fresh, fresh);
	shares_init(&server->settled, total - fresh);
	server->shed_defer.fn = shed_settled;
}

void server_shares_finish(struct http_server *server)
{
	loop_defer_cancel(server->loop, &server->shed_defer);
	shares_finish(&server->fresh);
	shares_finish(&server->settled);
}

/* IPv6 by the /64: it is what one machine commonly has to choose from. */
static void set_origin(struct http_conn *conn, const struct sockaddr *addr)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;

	conn->origin_n = 1;
	conn->origin[0] = 'a';
	if (addr->sa_family == AF_INET) {
		memcpy(conn->origin + 1, &in->sin_addr, 4);
		conn->origin_n += 4;
	} else if (addr->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		memcpy(conn->origin + 1, in6->sin6_addr.s6_addr + 12, 4);
		conn->origin_n += 4;
	} else if (addr->sa_family == AF_INET6) {
		memcpy(conn->origin + 1, &in6->sin6_addr, 8);
		conn->origin_n += 8;
	}
}

static struct str origin_of(const struct http_conn *conn)
{
	return str_make(conn->origin, conn->origin_n);
}

void shares_add(struct http_conn *conn, const struct sockaddr *addr)
{
	struct http_server *server = conn->server;

	list_init(&conn->owned);
	set_origin(conn, addr);
	while (server->fresh.n >= server->fresh.max)
		conn_shed(victim_of(&server->fresh));
	join(&server->fresh, conn, origin_of(conn));
}

void shares_set_activity(struct http_conn *conn, enum http_activity activity)
{
	if (conn->activity == activity)
		return;
	conn->activity = activity;
	if (!conn->owner || conn->shares == &conn->server->fresh)
		return;
	list_del(&conn->owned);
	list_add_tail(place_of(conn), &conn->owned);
}

static void settle(struct http_conn *conn, struct str key)
{
	struct http_server *server = conn->server;

	if (!conn->owner)
		return;
	shares_leave(conn);
	join(&server->settled, conn, key);
	if (server->settled.n > server->settled.max)
		loop_defer(server->loop, &server->shed_defer);
}

void shares_settle(struct http_conn *conn)
{
	if (conn->shares == &conn->server->fresh)
		settle(conn, origin_of(conn));
}

void http_request_set_owner(struct http_request *req, struct str user)
{
	struct http_conn *conn = container_of(req, struct http_stream, req)->conn;
	const struct http_owner *now = conn->owner;
	char key[1 + HTTP_OWNER_BYTES_MAX];

	if (!now)
		return;
	if (user.n > HTTP_OWNER_BYTES_MAX)
		user.n = HTTP_OWNER_BYTES_MAX;
	if (conn->shares == &conn->server->settled && now->key_n == user.n + 1 && now->key[0] == 'u' &&
	    str_eq(str_make(now->key + 1, user.n), user))
		return;
	key[0] = 'u';
	if (user.n)
		memcpy(key + 1, user.p, user.n);
	settle(conn, str_make(key, user.n + 1));
}
