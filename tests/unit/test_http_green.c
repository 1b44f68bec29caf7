/*
 * Bodies and responses on green threads: both ends of a connection live on one OS
 * thread, so whoever waits must let the other run, and so must who never has to wait.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/green_tasks.h"
#include "worker/http/body.h"
#include "worker/http/request.h"
#include "worker/http/response.h"

#define LONG (4 * 1024 * 1024)
#define PART (64 * 1024)

static int server, client; /* the connection's ends */
static bool other_ran, other_may_end;

static void
connect_ends(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	server = fds[0];
	client = fds[1];
	other_ran = other_may_end = false;
}

static void
close_ends(void)
{
	close(server);
	close(client);
}

static char
pattern(size_t i)
{
	return (char)(i * 7 + i / 251);
}

static void
begin_response(struct http_response *resp)
{
	struct http_request req = {
	    .method = {"GET", 3}, .major = 1, .minor = 1, .keep_alive = true};

	http_response_init(resp, server, 5000 * MS, "s");
	http_response_begin(resp, &req, true);
	assert_int_equal(http_response_status(resp, "200 OK", 6), 0);
	http_response_length(resp, LONG);
}

static void
begin_body(struct http_body *body, struct http_input *in, char *buf, size_t size)
{
	struct http_request req = {.content_length = LONG};

	*in = (struct http_input){.fd = server, .buf = buf, .size = size, .timeout = 5000 * MS};
	http_body_init(body, &req, in);
}

static void
other(void *arg)
{
	(void)arg;
	while (!other_may_end) {
		other_ran = true;
		green_yield();
	}
}

/* A green thread needs a while to be made. */
static void
wait_for_other(void)
{
	while (!other_ran)
		green_yield();
	other_ran = false;
}

/* ---- a peer that is slower ---- */

static void
send_long(void *arg)
{
	static char text[LONG];
	struct http_response resp;

	(void)arg;
	for (size_t i = 0; i < LONG; i++)
		text[i] = pattern(i);
	begin_response(&resp);
	assert_int_equal(http_response_write(&resp, text, LONG), 0);
	assert_int_equal(http_response_finish(&resp), 0);
	http_response_fini(&resp);
	assert_int_equal(shutdown(server, SHUT_WR), 0);
}

static void
receive_long(void *arg)
{
	char part[PART], *p;
	size_t got = 0, n;
	bool head = true;
	ssize_t rc;

	(void)arg;
	while ((rc = recv(client, part, sizeof(part), 0)) > 0) {
		p = part;
		if (head) {
			p = (char *)memmem(part, (size_t)rc, "\r\n\r\n", 4) + 4;
			head = false;
		}
		n = (size_t)rc - (size_t)(p - part);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], pattern(got + i));
		got += n;
		green_yield();
	}
	assert_int_equal(got, LONG);
}

static void
test_response_waits_for_its_reader(void **state)
{
	struct task a, b;

	(void)state;
	connect_ends();
	task_start(&a, send_long, NULL);
	task_start(&b, receive_long, NULL);
	run_all();
	close_ends();
}

static void
read_body(void *arg)
{
	char buf[2048], part[PART];
	struct http_body body;
	struct http_input in;
	size_t got = 0;
	ssize_t n;

	(void)arg;
	begin_body(&body, &in, buf, sizeof(buf));
	while ((n = http_body_read(&body, part, got % 2 == 0 ? sizeof(part) : 999)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(part[i], pattern(got + (size_t)i));
		got += (size_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(got, LONG);
}

static void
send_body(void *arg)
{
	char part[1001];

	(void)arg;
	for (size_t sent = 0, n; sent < LONG; sent += n) {
		n = LONG - sent < sizeof(part) ? LONG - sent : sizeof(part);
		for (size_t i = 0; i < n; i++)
			part[i] = pattern(sent + i);
		assert_int_equal(send(client, part, n, 0), n);
		if (sent % 7 == 0)
			green_yield();
	}
}

static void
test_body_waits_for_its_sender(void **state)
{
	struct task a, b;

	(void)state;
	connect_ends();
	task_start(&a, read_body, NULL);
	task_start(&b, send_body, NULL);
	run_all();
	close_ends();
}

/* ---- a peer that is faster: here it is fed, and emptied, by the same green thread ---- */

static void
read_without_wait(void *arg)
{
	static char part[PART];
	char buf[2048];
	struct http_body body;
	struct http_input in;

	(void)arg;
	wait_for_other();
	begin_body(&body, &in, buf, sizeof(buf));
	for (size_t got = 0; got < LONG / 2; got += PART) {
		assert_int_equal(send(client, part, PART, MSG_DONTWAIT), PART);
		for (size_t n = 0; n < PART;)
			n += (size_t)http_body_read(&body, part, PART - n);
	}
	assert_true(other_ran);
	other_may_end = true;
}

static void
write_without_wait(void *arg)
{
	static char part[PART];
	struct http_response resp;

	(void)arg;
	wait_for_other();
	begin_response(&resp);
	for (size_t sent = 0; sent < LONG / 2; sent += PART) {
		assert_int_equal(http_response_write(&resp, part, PART), 0);
		while (recv(client, part, PART, MSG_DONTWAIT) > 0)
			;
	}
	assert_true(other_ran);
	other_may_end = true;
	http_response_fini(&resp);
}

static void
test_others_run_beside_a_fast_peer(void **state)
{
	struct task a, b;

	(void)state;
	connect_ends();
	task_start(&a, read_without_wait, NULL);
	task_start(&b, other, NULL);
	run_all();
	other_ran = other_may_end = false;
	task_start(&a, write_without_wait, NULL);
	task_start(&b, other, NULL);
	run_all();
	close_ends();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_response_waits_for_its_reader, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_body_waits_for_its_sender, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_others_run_beside_a_fast_peer, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
