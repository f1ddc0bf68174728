/* The least that fan-out can cost with one system call per delivery: a server that does nothing
 * else.  Every WebSocket is a subscriber of everything; the body of a POST goes to all of them as
 * one text frame.  It checks nothing and is no server for any other purpose.
 *
 * Usage: limit FD, where FD is a listening socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 65536   /* file descriptors */
#define ROOM 8192    /* bytes of one request */
#define READY 512    /* sockets that one epoll_wait tells of */

struct client {
    char *request; /* NULL for a subscriber, whose bytes are read and forgotten */
    size_t length;
    int place; /* in subscribers[], or -1 */
};

static struct client *clients[MOST];
static int subscribers[MOST];
static int count;
static char scratch[65536];

static const char UPGRADED[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
static const char DONE[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static const char NOTHING[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* All of it or the end: a short write would make the figures wrong. */
static void put(int fd, const char *data, size_t length)
{
    if (send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length
        && errno != EPIPE && errno != ECONNRESET)
        fail("send");
}

static void forget(int fd)
{
    struct client *client = clients[fd];
    if (client->place >= 0) {
        int last = subscribers[--count];
        subscribers[client->place] = last;
        clients[last]->place = client->place;
    }
    free(client->request);
    free(client);
    clients[fd] = NULL;
    close(fd);
}

static void publish(const char *body, size_t length)
{
    static char frame[ROOM + 4];
    size_t head = 2;
    frame[0] = (char)0x81;
    if (length < 126) {
        frame[1] = (char)length;
    } else {
        frame[1] = 126;
        frame[2] = (char)(length >> 8);
        frame[3] = (char)(length & 255);
        head = 4;
    }
    memcpy(frame + head, body, length);
    for (int i = 0; i < count; i++)
        put(subscribers[i], frame, head + length);
}

/* Serve the request at the start of the buffer; 0 if it has not come whole. */
static int serve(int fd, struct client *client)
{
    char *end = strstr(client->request, "\r\n\r\n");
    if (!end)
        return 0;
    size_t head = (size_t)(end - client->request) + 4, body = 0;
    char *length = strcasestr(client->request, "\r\ncontent-length:");
    if (length && length < end)
        body = strtoul(length + 17, NULL, 10);
    if (client->length < head + body)
        return 0;
    char *upgrade = strcasestr(client->request, "\r\nupgrade:");
    if (upgrade && upgrade < end) {
        free(client->request);
        client->request = NULL;
        client->place = count;
        subscribers[count++] = fd;
        put(fd, UPGRADED, sizeof UPGRADED - 1);
        return 0;
    }
    if (strncmp(client->request, "POST ", 5) == 0) {
        publish(client->request + head, body);
        put(fd, DONE, sizeof DONE - 1);
    } else {
        put(fd, NOTHING, sizeof NOTHING - 1);
    }
    client->length -= head + body;
    memmove(client->request, client->request + head + body, client->length + 1);
    return 1;
}

static void receive(int fd)
{
    struct client *client = clients[fd];
    ssize_t got;
    if (!client->request) {
        got = read(fd, scratch, sizeof scratch);
    } else {
        got = read(fd, client->request + client->length, ROOM - client->length - 1);
        if (got > 0) {
            client->length += (size_t)got;
            client->request[client->length] = 0;
        }
    }
    if (got == 0 || (got < 0 && errno != EAGAIN))
        forget(fd);
    else
        while (client->request && serve(fd, client))
            ;
}

static void welcome(int listener, int poll)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        struct client *client = calloc(1, sizeof *client);
        if (fd >= MOST || !client || !(client->request = malloc(ROOM)))
            fail("too many connections");
        client->request[0] = 0;
        client->place = -1;
        clients[fd] = client;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0)
            fail("epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    int listener = atoi(argv[1]), poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[READY];
    fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) < 0)
        fail("epoll_ctl");
    for (;;) {
        int found = epoll_wait(poll, ready, READY, -1);
        if (found < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < found; i++) {
            if (ready[i].data.fd == listener)
                welcome(listener, poll);
            else
                receive(ready[i].data.fd);
        }
    }
}
