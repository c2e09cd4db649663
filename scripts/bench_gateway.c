// What bench_gateway.py measures with: an engine that answers at once, and clients that ask as fast as they are answered.
//
//   bench_gateway serve PORT CHUNKS                          every request gets a small JSON, or CHUNKS events of a stream
//   bench_gateway load PORT CLIENTS SECONDS BODY STREAM KEY  prints one line of JSON
//   bench_gateway load ... KEY PAUSE                         so many ms between an answer and the next request; all times
//
// One thread, epoll, loopback only. An event a turn of the loop for each stream, so that no two share a packet by design.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 65536, ROOM = 1 << 20 };

typedef struct {
    int used, left;         // left: events of a stream that are still to be sent
    size_t have, body;      // bytes in `in`; bytes of the body that are still to come
    int streams;            // this request asked for a stream
    char *in;
    double began;           // load: when the request was sent
    size_t sent, need;      // load: bytes of the request that were sent; bytes of a chunk or a body that are still to come
    int state, chunks;
} Peer;

static Peer peers[MOST];
static int loop;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void watch(int fd, unsigned events, int how) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    epoll_ctl(loop, how, fd, &e);
}

static void ready(int fd) {
    int one = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void forget(int fd) {
    close(fd);
    free(peers[fd].in);
    memset(&peers[fd], 0, sizeof(Peer));
}

// -- the engine --

static const char answer_body[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":"
    "{\"role\":\"assistant\",\"content\":\"The capital of France is Paris.\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":8,\"total_tokens\":15}}";
static const char models_body[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"owned_by\":\"vllm\",\"max_model_len\":8192}]}";
static const char event[] =
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"bench\",\"choices\":"
    "[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";

static void answer(int fd, const char *body) {
    char out[2048];
    int n = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(body), body);
    if (write(fd, out, n) != n) forget(fd);
}

static int handle(int fd, int chunks) { // one request that is whole in `in`, up to its body's length; whether there was one
    Peer *p = &peers[fd];
    if (p->body == 0) {
        p->in[p->have] = 0;
        char *end = strstr(p->in, "\r\n\r\n");
        if (!end) return 0;
        char *length = strcasestr(p->in, "\r\ncontent-length:");
        p->body = (length && length < end ? strtoul(length + 17, NULL, 10) : 0) + 1;
        size_t head = end + 4 - p->in;
        p->streams = 0;
        p->state = memcmp(p->in, "GET", 3) == 0;
        memmove(p->in, p->in + head, p->have - head);
        p->have -= head;
    }
    size_t take = p->have < p->body - 1 ? p->have : p->body - 1;
    if (take) { // only the ends of a body are looked at: that is where benchmarks say whether it streams
        char kept = p->in[take];
        p->in[take] = 0;
        size_t from = take > 4096 ? take - 4096 : 0;
        if (strstr(p->in + from, "\"stream\": true") || strstr(p->in + from, "\"stream\":true")) p->streams = 1;
        p->in[take] = kept;
        memmove(p->in, p->in + take, p->have - take);
        p->have -= take;
        p->body -= take;
    }
    if (p->body > 1) return 0;
    p->body = 0;
    if (p->streams) {
        static const char head[] =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
        if (write(fd, head, sizeof head - 1) < 0) return forget(fd), 0;
        p->left = chunks;
        return 0;
    }
    answer(fd, p->state ? models_body : answer_body);
    return p->used;
}

static void stream(int fd) {
    Peer *p = &peers[fd];
    char out[512];
    int n = p->left > 1 ? snprintf(out, sizeof out, "%zx\r\n%s\r\n", sizeof event - 1, event)
                        : snprintf(out, sizeof out, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    ssize_t sent = write(fd, out, n);
    if (sent == n) p->left--;
    else if (sent >= 0 || errno != EAGAIN) forget(fd); // a part of an event: that client is too slow to be of use here
}

static int serve(int port, int chunks) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int door = socket(AF_INET, SOCK_STREAM, 0), one = 1, active[MOST], streams = 0;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (void *)&at, sizeof at) || listen(door, 1024)) return perror("bind"), 1;
    watch(door, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(loop, events, 256, streams ? 0 : -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == door) {
                int made = accept(door, NULL, NULL);
                if (made < 0) continue;
                ready(made);
                peers[made] = (Peer){.used = 1, .in = malloc(ROOM + 1)};
                watch(made, EPOLLIN, EPOLL_CTL_ADD);
                continue;
            }
            Peer *p = &peers[fd];
            ssize_t got = read(fd, p->in + p->have, ROOM - p->have);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN) forget(fd);
                continue;
            }
            p->have += got;
            while (p->used && !p->left && (p->have || p->body) && handle(fd, chunks) && p->have) {}
            if (p->left == chunks && p->used) active[streams++] = fd;
        }
        for (int i = 0; i < streams;) {
            int fd = active[i];
            if (peers[fd].left) stream(fd);
            if (!peers[fd].left) active[i] = active[--streams];
            else i++;
        }
    }
}

// -- the clients --

static char *request;
static size_t request_size;
static double *times;
static size_t answers, room, chunks_seen, errors;
static double pause_ms;

static void push(int fd) {
    Peer *p = &peers[fd];
    while (p->sent < request_size) {
        ssize_t n = write(fd, request + p->sent, request_size - p->sent);
        if (n < 0) break;
        p->sent += n;
    }
    watch(fd, p->sent < request_size ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void ask(int fd) {
    Peer *p = &peers[fd];
    p->began = now();
    p->sent = p->have = p->need = 0;
    p->state = p->chunks = 0;
    push(fd);
}

static int dial(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&at, sizeof at)) return perror("connect"), -1;
    ready(fd);
    peers[fd] = (Peer){.used = 1, .in = malloc(ROOM + 1)};
    watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    return fd;
}

static int answered(Peer *p) { // 1: a whole answer, 0: more is to come, -1: no answer of use
    for (;;) {
        p->in[p->have] = 0;
        size_t took = 0;
        if (p->state == 0) { // the head
            char *end = strstr(p->in, "\r\n\r\n");
            if (!end) return 0;
            if (strncmp(p->in, "HTTP/1.1 200", 12)) return -1;
            char *length = strcasestr(p->in, "\r\ncontent-length:");
            p->state = length && length < end ? 1 : 2;
            p->need = p->state == 1 ? strtoul(length + 17, NULL, 10) : 0;
            took = end + 4 - p->in;
        } else if (p->state == 1) { // a body of known length
            took = p->have < p->need ? p->have : p->need;
            p->need -= took;
            if (p->need == 0) return p->have == took ? 1 : -1;
            if (took == 0) return 0;
        } else if (p->state == 2) { // a chunk's size
            char *end = strstr(p->in, "\r\n");
            if (!end) return 0;
            p->need = strtoul(p->in, NULL, 16) + 2;
            took = end + 2 - p->in;
            if (p->need == 2) {
                if (p->have < took + 2) return 0;
                return 1;
            }
            p->state = 3;
            for (char *s = end; (s = strstr(s, "data: ")); s += 6) { // several events may share a chunk: only whole ones are in `in`
                if ((size_t)(s - end) >= p->need) break;
                p->chunks++;
            }
        } else { // a chunk
            took = p->have < p->need ? p->have : p->need;
            p->need -= took;
            if (p->need == 0) p->state = 2;
            else if (took == 0) return 0;
        }
        memmove(p->in, p->in + took, p->have - took);
        p->have -= took;
    }
}

static int by_time(const void *a, const void *b) { return *(double *)a < *(double *)b ? -1 : 1; }

static int load(int port, int clients, double seconds, size_t body, int streams, const char *key) {
    char head[1024], tail[64];
    static const char front[] = "{\"model\": \"bench\", \"messages\": [{\"role\": \"user\", \"content\": \"";
    snprintf(tail, sizeof tail, "\"}], \"max_tokens\": 16, \"stream\": %s}", streams ? "true" : "false");
    size_t filler = body - strlen(tail) - (sizeof front - 1);
    int n = snprintf(head, sizeof head,
                     "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
                     "User-Agent: OpenAI/Python 2.54.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.54.0\r\n"
                     "X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Retry-Count: 0\r\n"
                     "Authorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n",
                     port, key, body);
    request = malloc(n + body + 1);
    memcpy(request, head, n);
    memcpy(request + n, front, sizeof front - 1);
    for (size_t i = 0; i < filler; i++) request[n + sizeof front - 1 + i] = "some words of a prompt, "[i % 24];
    memcpy(request + n + sizeof front - 1 + filler, tail, strlen(tail));
    request_size = n + body;
    room = 1 << 22;
    times = malloc(room * sizeof *times);
    for (int i = 0; i < clients; i++) {
        int fd = dial(port);
        if (fd < 0) return 1;
        ask(fd);
    }
    double start = now(), end = start + seconds;
    while (now() < end) {
        struct epoll_event events[256];
        int ready_now = epoll_wait(loop, events, 256, 100);
        for (int i = 0; i < ready_now; i++) {
            int fd = events[i].data.fd;
            Peer *p = &peers[fd];
            if (events[i].events & EPOLLOUT) push(fd);
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            ssize_t got = read(fd, p->in + p->have, ROOM - p->have);
            if (got < 0 && errno == EAGAIN) continue;
            if (got > 0) p->have += got;
            int done = got > 0 ? answered(p) : -1;
            if (done < 0) {
                if (errors++ == 0) fprintf(stderr, "first fault: %.200s\n", got > 0 ? p->in : "closed");
                forget(fd);
                if (errors > 1000 || (fd = dial(port)) < 0) return fprintf(stderr, "no use\n"), 1;
                ask(fd);
            } else if (done) {
                chunks_seen += p->chunks;
                if (answers < room) times[answers++] = now() - p->began;
                if (pause_ms) usleep(pause_ms * 1e3);
                ask(fd);
            }
        }
    }
    double took = now() - start;
    qsort(times, answers, sizeof *times, by_time);
    printf("{\"rps\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"chunks_per_s\": %.0f, \"answers\": %zu, \"errors\": %zu", answers / took,
           answers ? times[answers / 2] * 1e3 : 0, answers ? times[answers * 99 / 100] * 1e3 : 0, chunks_seen / took, answers, errors);
    for (size_t i = 0; pause_ms && i < answers; i++) printf("%s%.4f", i ? ", " : ", \"times_ms\": [", times[i] * 1e3);
    puts(pause_ms && answers ? "]}" : "}");
    return 0;
}

int main(int count, char **words) {
    loop = epoll_create1(0);
    signal(SIGPIPE, SIG_IGN);
    if (count == 4 && !strcmp(words[1], "serve")) return serve(atoi(words[2]), atoi(words[3]));
    if (count == 9) pause_ms = atof(words[8]);
    if ((count == 8 || count == 9) && !strcmp(words[1], "load"))
        return load(atoi(words[2]), atoi(words[3]), atof(words[4]), strtoul(words[5], NULL, 10), atoi(words[6]), words[7]);
    return fprintf(stderr, "bench_gateway serve PORT CHUNKS | load PORT CLIENTS SECONDS BODY STREAM KEY [PAUSE]\n"), 2;
}
