/*
 * Bodies and responses on green threads: both ends of a connection live on one OS
 * thread, so whoever waits must let the other run, and so must who never has to wait.
 */
#include <errno.h>
#include <string.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/green_tasks.h"
#include "worker/http/body.h"
#include "worker/http/handover.h"
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

/* ---- the application takes the socket ---- */

static void
expect(int fd, const char *want)
{
	char text[256];
	size_t n = 0;
	ssize_t got;

	while (n < strlen(want) && (got = recv(fd, text + n, strlen(want) - n, 0)) > 0)
		n += (size_t)got;
	assert_int_equal(n, strlen(want));
	assert_memory_equal(text, want, n);
}

static void
expect_end(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

/* What the connection's owner does, with what the client has sent behind the head. */
static void
hand_over(const char *early, const char *status)
{
	char buf[64];
	struct http_input in = {.fd = server, .buf = buf, .size = sizeof(buf), .mark = 4, .pos = 4};
	struct http_response resp;
	struct http_relay *relay;
	int given;

	begin_response(&resp);
	if (status != NULL)
		assert_int_equal(http_response_status(&resp, status, strlen(status)), 0);
	memcpy(buf, "HEAD", 4);
	memcpy(buf + 4, early, strlen(early));
	in.len = 4 + strlen(early);
	given = http_handover_look(server);
	assert_true(given >= 0);
	assert_true(fcntl(given, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(http_handover(&resp, &in, given, &relay), 0);
	assert_int_equal(relay != NULL, *early != '\0');
	assert_int_equal(in.fd, *early != '\0' ? server : -1);
	expect(given, early);
	expect(given, "question");
	assert_int_equal(send(given, "answer", 6, 0), 6);
	close(given);
	http_relay_end(relay);
	if (in.fd != -1)
		close(in.fd);
	http_response_fini(&resp);
}

static void
hand_over_at_once(void *arg)
{
	(void)arg;
	hand_over("", NULL);
}

static void
hand_over_with_relay(void *arg)
{
	(void)arg;
	hand_over("early ", "101 Switching Protocols");
}

static void
ask(void *arg)
{
	bool head = arg != NULL;

	assert_int_equal(send(client, "question", 8, 0), 8);
	if (head)
		expect(client, "HTTP/1.1 101 Switching Protocols\r\nServer: s\r\nDate: ");
	while (head) {
		char end[4];

		assert_int_equal(recv(client, end, 4, MSG_PEEK), 4);
		if (memcmp(end, "\r\n\r\n", 4) == 0)
			head = false;
		assert_int_equal(recv(client, end, head ? 1 : 4, 0), head ? 1 : 4);
	}
	expect(client, "answer");
	expect_end(client);
}

static void
test_application_takes_the_socket(void **state)
{
	struct task a, b;

	(void)state;
	connect_ends();
	task_start(&a, hand_over_at_once, NULL);
	task_start(&b, ask, NULL);
	run_all();
	close(client);
	connect_ends();
	task_start(&a, hand_over_with_relay, NULL);
	task_start(&b, ask, &server);
	run_all();
	close(client);
}

/* It is gone and has left more than a client takes, who stays. */
static void
hand_over_to_silence(void *arg)
{
	static char part[PART];
	char buf[8] = "early";
	struct http_input in = {.fd = server, .buf = buf, .size = sizeof(buf), .len = 5};
	struct http_response resp;
	struct http_relay *relay;
	int given;

	(void)arg;
	begin_response(&resp);
	resp.send_timeout = 50 * MS;
	given = http_handover_look(server);
	assert_int_equal(http_handover(&resp, &in, given, &relay), 0);
	for (int idle = 0; idle < 3;) { /* until both buffers are full */
		idle = send(given, part, PART, MSG_DONTWAIT) == -1 ? idle + 1 : 0;
		green_sleep_until(green_deadline(10 * MS));
	}
	close(given);
	http_relay_end(relay);
	close(server);
	http_response_fini(&resp);
}

static void
test_relay_ends_whatever_the_client_does(void **state)
{
	struct task a;

	(void)state;
	connect_ends();
	task_start(&a, hand_over_to_silence, NULL);
	run_all();
	close(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_response_waits_for_its_reader, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_body_waits_for_its_sender, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_others_run_beside_a_fast_peer, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_application_takes_the_socket, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_relay_ends_whatever_the_client_does, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
