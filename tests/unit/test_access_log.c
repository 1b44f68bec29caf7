/* The access log: a table of formats and what they print, and the file behind it. */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/access_format.h"
#include "worker/access_json.h"
#include "worker/access_log.h"

#define STR(s)                   \
	{                        \
		s, sizeof(s) - 1 \
	}

static struct http_header headers[] = {
    {STR("Host"), STR("example.org")},
    {STR("User-Agent"), STR("curl/8 \"x\"")},
    {STR("referer"), STR("http://from/\x01\n\\")},
    {STR("Authorization"), STR("Basic YWxpY2U6c2VjcmV0")},
    {STR("X-Twice"), STR("one")},
    {STR("X-Twice"), STR("two")},
    {STR("X-Latin"), STR("caf\xe9")},
};

static struct http_request request = {
    .method = STR("GET"),
    .target = STR("/app/a%20b%22?x=%22y%22"),
    .path = STR("/app/a%20b%22"),
    .query = STR("x=%22y%22"),
    .major = 1,
    .minor = 1,
    .headers = headers,
    .nheaders = sizeof(headers) / sizeof(headers[0]),
};

static char head[] = "HTTP/1.1 200 OK\r\nServer: greenicorn\r\nX-Two:  b\"c\r\nX-Empty:\r\n\r\n";

static struct http_response response = {
    .status = 200,
    .sent = 1234,
    .waited = 1000000001,
    .head = head,
    .head_len = sizeof(head) - 1,
};

static struct http_body body = {.received = 5, .waited = 500000000};
static const struct app_peer peer = {
    .remote_addr = "127.0.0.1", .remote_port = "4711", .scheme = "http"};
static char *names[] = {"PATH_INFO", "missing"};
static char *values[] = {"/a b\"", NULL};

static struct app_exchange exchange = {
    .request = &request,
    .body = &body,
    .response = &response,
    .peer = &peer,
    .script_name = STR("/app"),
    .started = 1000000000,
    .complete = 999000000,
    .arrived = 700000000,
    .ran = 12345,
    .request_id = STR("id-1"),
    .log_names = names,
    .log_values = values,
    .nlog = 2,
};

/* 2.345678 s later */
#define NOW (1000000000 + 2345678901LL)

static const struct {
	const char *format, *line;
} cases[] = {
    {"", "\n"},
    {"plain 100%%", "plain 100%\n"},
    {"%(h)s", "127.0.0.1\n"},
    {"%(l)s", "-\n"},
    {"%(u)s", "alice\n"},
    {"%(r)s", "GET /app/a%20b%22?x=%22y%22 HTTP/1.1\n"},
    {"%(m)s", "GET\n"},
    {"%(U)s", "/a b\\\"\n"},
    {"%(q)s", "x=%22y%22\n"},
    {"%(H)s", "HTTP/1.1\n"},
    {"%(s)s", "200\n"},
    {"%(B)s %(b)s", "1234 1234\n"},
    {"%(f)s", "http://from/\\x01\\x0a\\\\\n"},
    {"%(a)s", "curl/8 \\\"x\\\"\n"},
    {"%(T)s %(M)s %(D)s %(L)s", "2 2345 2345678 2.345678\n"},
    {"%(D)d", "2345678\n"},
    {"%({host}i)s %({HOST}i)s", "example.org example.org\n"},
    {"%({x-twice}i)s", "two\n"},
    {"%({x-latin}i)s", "caf\\xe9\n"},
    {"%({none}i)s", "-\n"},
    {"%({server}o)s", "greenicorn\n"},
    {"%({X-Two}o)s", "b\\\"c\n"},
    {"%({x-empty}o)s|", "|\n"},
    {"%({x}o)s %({none}o)s %({HTTP/1.1 200 OK}o)s", "- - -\n"},
    {"%({PATH_INFO}e)s %({missing}e)s", "/a b\\\" -\n"},
    {"%(queue_time)s %(head_time)s %(green_time)s", "0.001000 0.299000 0.000012\n"},
    {"%(body_time)s %(app_time)s %(send_time)s", "0.500000 0.845678 1.000000\n"},
    {"%(request_id)s %(in_flight)s %(queue)s", "id-1 0 -\n"},
    {"%(x)s %(hh)s %()s %({x)s %({x}q)s %({x}ii)s", "- - - - - -\n"},
};

static void
test_atoms(void **state)
{
	char why[100], line[1000];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct access_format *f = access_format_new(cases[i].format, why, sizeof(why));
		size_t n;

		if (f == NULL)
			fail_msg("%s: %s", cases[i].format, why);
		n = access_format_print(f, &exchange, NOW, line, sizeof(line));
		line[n] = '\0';
		assert_string_equal(line, cases[i].line);
		access_format_free(f);
	}
}

static void
assert_matches(const char *format, const char *pattern)
{
	char why[100], line[2000];
	struct access_format *f = access_format_new(format, why, sizeof(why));
	regex_t regex;

	assert_non_null(f);
	line[access_format_print(f, &exchange, NOW, line, sizeof(line))] = '\0';
	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&regex, line, 0, NULL, 0) != 0)
		fail_msg("%s is no %s", line, pattern);
	regfree(&regex);
	access_format_free(f);
}

static void
test_time_and_pid(void **state)
{
	(void)state;
	assert_matches("%(t)s", "^\\[[0-3][0-9]/[A-Z][a-z]{2}/20[0-9]{2}:[0-2][0-9]:[0-5][0-9]:"
				"[0-6][0-9] [+-][0-9]{4}\\]\n$");
	assert_matches("%(p)s", "^<[1-9][0-9]*>\n$");
}

static void
test_without_request(void **state)
{
	struct http_request none = {.major = 1, .minor = 0};
	struct app_exchange x = exchange;
	struct access_format *f;
	char why[100], line[100];

	(void)state;
	x.request = &none;
	f = access_format_new("%(u)s %(f)s %(a)s %(q)s|", why, sizeof(why));
	assert_non_null(f);
	line[access_format_print(f, &x, 0, line, sizeof(line))] = '\0';
	assert_string_equal(line, "- - - |\n");
	access_format_free(f);
}

static void
test_broken_formats(void **state)
{
	static const char *const formats[] = {
	    "%", "100%", "%h", "%(h", "%(h)", "%(h)x", "a %(h)s %"};
	char why[100];

	(void)state;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		why[0] = '\0';
		assert_null(access_format_new(formats[i], why, sizeof(why)));
		assert_non_null(strstr(why, "\"%"));
	}
}

static void
test_names(void **state)
{
	char why[100];
	size_t n;
	struct access_format *f =
	    access_format_new("%({A}e)s %({B}i)s %({wsgi.x}e)s", why, sizeof(why));
	char *const *got;

	(void)state;
	assert_non_null(f);
	got = access_format_names(f, &n);
	assert_int_equal(n, 2);
	assert_string_equal(got[0], "A");
	assert_string_equal(got[1], "wsgi.x");
	access_format_free(f);
}

/* However small the room, the line ends in "\n" and nothing lies behind it. */
static void
test_cut(void **state)
{
	char why[100], line[64];
	struct access_format *f = access_format_new("%(r)s \"%(a)s\" %(D)s", why, sizeof(why));

	(void)state;
	assert_non_null(f);
	for (size_t size = 1; size < sizeof(line); size++) {
		size_t n;

		memset(line, '#', sizeof(line));
		n = access_format_print(f, &exchange, NOW, line, size);
		assert_true(n >= 1 && n <= size);
		assert_int_equal(line[n - 1], '\n');
		assert_int_equal(line[size], '#');
	}
	access_format_free(f);
}

/* ---- JSON ---- */

static const char json[] =
    "^\\{\"timestamp\":\"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z\","
    "\"http\\.request\\.method\":\"GET\",\"url\\.path\":\"/app/a%20b%22\","
    "\"url\\.query\":\"x=%22y%22\",\"url\\.scheme\":\"http\","
    "\"network\\.protocol\\.version\":\"1\\.1\",\"server\\.address\":\"\\[::1\\]\","
    "\"http\\.request\\.body\\.size\":5,\"http\\.response\\.status_code\":200,"
    "\"http\\.response\\.body\\.size\":1234,\"http\\.server\\.request\\.duration\":2\\.345678,"
    "\"client\\.address\":\"127\\.0\\.0\\.1\",\"client\\.port\":4711,"
    "\"user_agent\\.original\":\"curl/8 \\\\\"x\\\\\"\","
    "\"http\\.request\\.header\\.referer\":\\[\"http://from/\\\\u0001\\\\u000a\\\\\\\\\"\\],"
    "\"user\\.name\":\"alice\",\"process\\.pid\":[0-9]+,\"greenicorn\\.request_id\":\"id-1\","
    "\"greenicorn\\.in_flight\":0,\"greenicorn\\.queue_time\":0\\.001000,\"greenicorn\\.head_"
    "time\":0\\.299000,"
    "\"greenicorn\\.body_time\":0\\.500000,\"greenicorn\\.app_time\":0\\.845678,"
    "\"greenicorn\\.send_time\":1\\.000000,\"greenicorn\\.green_time\":0\\.000012\\}\n$";

static void
test_json(void **state)
{
	(void)state;
	request.host = (struct http_str)STR("[::1]:8000");
	assert_matches("json", json);
	request.host = (struct http_str){NULL, 0};
}

static const struct {
	struct http_str text;
	const char *escaped;
} texts[] = {
    {STR("plain"), "plain"},
    {STR("\"\\/"), "\\\"\\\\/"},
    {STR("a\tb\rc\nd\0e\x1f\x7f"), "a\\u0009b\\u000dc\\u000ad\\u0000e\\u001f\\u007f"},
    {STR("\xc3\xa9 \xe2\x82\xac \xf0\x9f\xa6\x84"), "\xc3\xa9 \xe2\x82\xac \xf0\x9f\xa6\x84"},
    {STR("\xe9|\xc3|\x80"), "\\ufffd|\\ufffd|\\ufffd"}, /* latin-1, cut, alone */
    {STR("\xc0\xaf \xe0\x80\xaf"), "\\ufffd\\ufffd \\ufffd\\ufffd\\ufffd"}, /* not the shortest */
    {STR("\xed\xa0\x80"), "\\ufffd\\ufffd\\ufffd"},                         /* a surrogate */
    {STR("\xf4\x90\x80\x80 \xf5"), "\\ufffd\\ufffd\\ufffd\\ufffd \\ufffd"}, /* too large */
    {STR("\xe2\x82"), "\\ufffd\\ufffd"},
};

/* A request with this one field. */
static void
json_print(struct http_header *h, char *line, size_t size)
{
	struct http_request r = request;
	struct app_exchange x = exchange;
	char why[100];
	struct access_format *f = access_format_new("json", why, sizeof(why));

	assert_non_null(f);
	r.headers = h;
	r.nheaders = 1;
	x.request = &r;
	line[access_format_print(f, &x, NOW, line, size)] = '\0';
	access_format_free(f);
}

static void
json_print_agent(struct http_str agent, char *line, size_t size)
{
	struct http_header h = {STR("user-agent"), agent};

	json_print(&h, line, size);
}

static void
test_json_strings(void **state)
{
	static char line[ACCESS_JSON_MAX + 1];
	char expected[200];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_print_agent(texts[i].text, line, sizeof(line));
		snprintf(expected, sizeof(expected), "\"user_agent.original\":\"%s\",",
		    texts[i].escaped);
		if (strstr(line, expected) == NULL)
			fail_msg("%s is not in %s", expected, line);
	}
}

static void
test_json_trace(void **state)
{
	static const struct {
		struct http_str value;
		bool good;
	} rows[] = {
	    {STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), true},
	    {STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"), false},
	    {STR("00-4bf92f3577b34da6a3ce929d0e0e473\"-00f067aa0ba902b7-01"), false},
	    {STR("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"), false},
	    {STR(""), false},
	};
	char line[2000];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http_header h = {STR("Traceparent"), rows[i].value};

		json_print(&h, line, sizeof(line));
		assert_int_equal(
		    strstr(line, "\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",") != NULL,
		    rows[i].good);
		assert_int_equal(strstr(line, "trace_id") != NULL, rows[i].good);
	}
}

/* A text of the client's that is too long is cut between two characters. */
static void
test_json_is_never_cut(void **state)
{
	static char line[ACCESS_JSON_MAX + 1], text[70000];
	static const char *const units[] = {
	    "x", "\"", "\x01", "\xff", "\xf0\x9f\xa6\x84", "\xe2\x82\xac"};

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i]), length = 0;
		const char *at;

		while (length + n <= sizeof(text)) {
			memcpy(text + length, units[i], n);
			length += n;
		}
		json_print_agent((struct http_str){text, length}, line, sizeof(line));
		at = strstr(line, "\",\"process.pid\"");
		assert_non_null(at);
		assert_true(at - line < 6000 && at - line > 4000);
		if (units[i][0] == 'x' || n > 1)
			assert_memory_equal(at - n, units[i], n);
		assert_string_equal(line + strlen(line) - 2, "}\n");
	}
}

/* ---- the file ---- */

static char dir[] = "/tmp/test_access_log.XXXXXX";
static char path[64], moved[64];

static int
setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(moved, sizeof(moved), "%s/log.1", dir);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlink(path);
	unlink(moved);
	return rmdir(dir);
}

static size_t
count_lines(const char *name, const char *line)
{
	char buf[200];
	size_t n = 0;
	FILE *in = fopen(name, "r");

	assert_non_null(in);
	for (; fgets(buf, sizeof(buf), in) != NULL; n++)
		assert_string_equal(buf, line);
	fclose(in);
	return n;
}

static struct access_log *
log_new(const char *name)
{
	char why[100];
	struct access_format *f = access_format_new("%(s)s %(b)s", why, sizeof(why));
	struct access_log *log;

	assert_non_null(f);
	log = access_log_open(name, f, NULL);
	if (log == NULL)
		access_format_free(f);
	return log;
}

static void
test_file_is_appended_to_and_reopened(void **state)
{
	struct access_log *log = log_new(path);

	(void)state;
	assert_non_null(log);
	access_log_add(log, &exchange);
	access_log_flush(log);
	assert_int_equal(count_lines(path, "200 1234\n"), 1);
	access_log_close(log);

	log = log_new(path);
	for (int i = 0; i < 20000; i++) /* more than the buffer holds */
		access_log_add(log, &exchange);
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(access_log_reopen(log), 0);
	assert_int_equal(count_lines(moved, "200 1234\n"), 20001);
	access_log_add(log, &exchange);
	access_log_close(log);
	assert_int_equal(count_lines(path, "200 1234\n"), 1);
}

static void
test_open_fails(void **state)
{
	(void)state;
	errno = 0;
	assert_null(log_new("/nonexistent/log"));
	assert_int_equal(errno, ENOENT);
}

static void
test_no_log(void **state)
{
	size_t n = 1;

	(void)state;
	access_log_add(NULL, &exchange);
	access_log_flush(NULL);
	assert_int_equal(access_log_reopen(NULL), 0);
	assert_null(access_log_names(NULL, &n));
	assert_int_equal(n, 0);
	access_log_close(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_atoms),
	    cmocka_unit_test(test_time_and_pid),
	    cmocka_unit_test(test_without_request),
	    cmocka_unit_test(test_broken_formats),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_json),
	    cmocka_unit_test(test_json_strings),
	    cmocka_unit_test(test_json_trace),
	    cmocka_unit_test(test_json_is_never_cut),
	    cmocka_unit_test(test_file_is_appended_to_and_reopened),
	    cmocka_unit_test(test_open_fails),
	    cmocka_unit_test(test_no_log),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
