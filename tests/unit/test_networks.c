/* Lists of addresses and networks, as forwarded_allow_ips has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/kinds.h"
#include "common/networks.h"

static void
test_contains(void **state)
{
	static const struct {
		const char *network, *address;
		bool contains;
	} cases[] = {
	    {"127.0.0.1", "127.0.0.1", true},
	    {"127.0.0.1", "127.0.0.2", false},
	    {"127.0.0.1", "::ffff:127.0.0.1", true}, /* on a socket of both families */
	    {"::ffff:127.0.0.1", "127.0.0.1", true},
	    {"::ffff:10.0.0.0/104", "10.9.9.9", true},
	    {"::1", "::1", true},
	    {"::1", "127.0.0.1", false},
	    {"10.0.0.0/8", "10.255.255.255", true},
	    {"10.0.0.0/8", "11.0.0.0", false},
	    {"10.0.0.0/255.0.0.0", "10.1.2.3", true},
	    {"10.0.0.0/0.255.255.255", "10.1.2.3", true},
	    {"10.0.0.0/255.255.255.255", "10.0.0.1", false},
	    {"0.0.0.0/0.0.0.0", "10.0.0.1", true},
	    {"10.16.0.0/12", "10.31.255.255", true},
	    {"10.16.0.0/12", "10.32.0.0", false},
	    {"192.0.2.128/25", "192.0.2.127", false},
	    {"192.0.2.4/31", "192.0.2.5", true},
	    {"192.0.2.4/32", "192.0.2.5", false},
	    {"0.0.0.0/0", "203.0.113.9", true},
	    {"0.0.0.0/0", "2001:db8::1", false},
	    {"::/0", "2001:db8::1", true},
	    {"::/0", "203.0.113.9", false},
	    {"::/64", "::1", true},
	    {"2001:db8::/32", "2001:db8:ffff::1", true},
	    {"2001:db8::/32", "2001:db9::", false},
	    {"2001:db8::/33", "2001:db8:8000::", false},
	    {"fe80::/10", "febf::1", true},
	};
	struct networks networks;
	struct ip ip;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *item = (char *)cases[i].network;
		struct strlist list = {&item, 1};

		if (networks_parse(&networks, &list, why, sizeof(why)) == -1)
			fail_msg("%s: %s", item, why);
		assert_true(ip_parse(&ip, cases[i].address, strlen(cases[i].address)));
		if (networks_contain(&networks, &ip) != cases[i].contains)
			fail_msg("%s in %s", cases[i].address, item);
		networks_fini(&networks);
	}
}

static void
test_refused(void **state)
{
#define NONE " is no address or network (192.0.2.1, 192.0.2.0/24, 2001:db8::/32, *)"
	static const struct {
		const char *text, *why;
	} cases[] = {
	    {"192.168.1.1/24",
		"\"192.168.1.1/24\" has host bits set: did you mean 192.168.1.0/24, or 192.168.1.1 "
		"alone?"},
	    {"2001:db8::1/32",
		"\"2001:db8::1/32\" has host bits set: did you mean 2001:db8::/32, or 2001:db8::1 "
		"alone?"},
	    {"10.0.0.1/0", "\"10.0.0.1/0\" has host bits set: did you mean 0.0.0.0/0, or 10.0.0.1 "
			   "alone?"},
	    {"10.0.0.0/33", "\"10.0.0.0/33\": no such network mask"},
	    {"10.0.0.0/", "\"10.0.0.0/\": no such network mask"},
	    {"10.0.0.0/-1", "\"10.0.0.0/-1\": no such network mask"},
	    {"10.0.0.0/ 8", "\"10.0.0.0/ 8\": no such network mask"},
	    {"10.0.0.0/8x", "\"10.0.0.0/8x\": no such network mask"},
	    {"10.0.0.0/255.0.255.0", "\"10.0.0.0/255.0.255.0\": no such network mask"},
	    {"10.0.0.0/8/8", "\"10.0.0.0/8/8\": no such network mask"},
	    {"::/129", "\"::/129\": no such network mask"},
	    {"::/99999999999999999999", "\"::/99999999999999999999\": no such network mask"},
	    {"::/255.0.0.0", "\"::/255.0.0.0\": no such network mask"},
	    {"", "\"\"" NONE},
	    {"10.0.0", "\"10.0.0\"" NONE},
	    {"010.0.0.1", "\"010.0.0.1\"" NONE},
	    {"10.0.0.1:80", "\"10.0.0.1:80\"" NONE},
	    {"[::1]", "\"[::1]\"" NONE},
	    {"fe80::1%eth0", "\"fe80::1%eth0\"" NONE},
	    {"localhost", "\"localhost\"" NONE},
	    {"**", "\"**\"" NONE},
	};
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *items[] = {"127.0.0.1", (char *)cases[i].text};

		assert_int_equal(
		    networks_parse(NULL, &(struct strlist){items, 2}, why, sizeof(why)), -1);
		assert_string_equal(why, cases[i].why);
	}
}

static void
test_any(void **state)
{
	char *items[] = {"*", "10.0.0.0/8"};
	struct networks networks;
	struct ip ip;

	(void)state;
	assert_int_equal(networks_parse(&networks, &(struct strlist){items, 2}, NULL, 0), 0);
	assert_true(networks.any);
	assert_true(ip_parse(&ip, "10.1.1.1", 8));
	assert_true(networks_contain(&networks, &ip));
	assert_true(ip_parse(&ip, "192.0.2.1", 9));
	assert_false(networks_contain(&networks, &ip));
	networks_fini(&networks);
	assert_int_equal(networks_parse(&networks, &(struct strlist){NULL, 0}, NULL, 0), 0);
	assert_false(networks.any || networks_contain(&networks, &ip));
	networks_fini(&networks);
}

static void
test_text(void **state)
{
	static const char *const cases[][2] = {{"::ffff:192.0.2.1", "192.0.2.1"},
	    {"192.0.2.1", "192.0.2.1"}, {"2001:DB8:0::1", "2001:db8::1"}};
	static const char *const bad[] = {"", "1", "1.2.3.4 ", "1.2.3.256", "::g", "1.2.3.4.5",
	    "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"};
	char text[INET6_ADDRSTRLEN];
	struct ip ip;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(ip_parse(&ip, cases[i][0], strlen(cases[i][0])));
		ip_format(&ip, text);
		assert_string_equal(text, cases[i][1]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(ip_parse(&ip, bad[i], strlen(bad[i])));
	assert_false(ip_parse(&ip, "1.2.3.4\0x", 9));
	assert_false(ip_from_sockaddr(&ip, &(struct sockaddr){.sa_family = AF_UNIX}));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_contains),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_any),
	    cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
