/* A libnvidia-ml.so.1 that answers from a text file, with just the functions that launcher/nvml.py calls.
 *
 * FAKE_NVML_SCENARIO names the file, which is read at every nvmlInit. One word and its values a line:
 *     driver 580.95.05          cuda 13000            init 9 (what nvmlInit returns)
 *     card                      (begins a GPU)        instance   (begins a MIG instance of it)
 *     name TEXT  uuid TEXT  memory TOTAL RESERVED FREE  compute MAJOR MINOR
 *     computes PID BYTES        draws PID BYTES
 *     falls CALLS CODE          (the same, after that many calls)
 *     untold                    (process lists are Not Supported)
 *     pci BUS                   link STATE TYPE BUS   (one for each NVLink: up or not, what is at its end, and where)
 * A card's health, each Not Supported if it is not said:
 *     clock NOW MOST            reasons BITS          ecc UNCORRECTED
 *     remapped PENDING FAILED   persistence 0
 * What it does, likewise:
 *     busy PERCENT              warm DEGREES              power MILLIWATTS
 * Without `memory` the memory query is Not Supported, without `link` the links' are, without `cuda` the CUDA version is unknown.
 * -DOLD_DRIVER leaves out what drivers before 510 do not have, -DWITHOUT_... what older ones do not have.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };
enum { MOST = 64, TEXT = 128 };

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned count; Process of[MOST]; } Processes;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; } Pci;
typedef struct Device {
    char name[TEXT], uuid[TEXT];
    unsigned long long total, reserved, free;
    int has_memory, major, minor, calls, falls, code, untold, health;
    unsigned clock, most, pending, failed, persistence, busy, warm, milliwatts;
    unsigned long long reasons, errors;
    Processes computes, draws;
    unsigned bus, link_count;
    struct { unsigned up, kind, bus; } links[MOST];
    struct Device *instances[MOST];
    unsigned instance_count;
} Device;

static Device cards[MOST];
static unsigned card_count;
static char driver[TEXT];
static int initialized, cuda;

enum { CLOCK = 1, REASONS = 2, ECC = 4, REMAPPED = 8, PERSISTENCE = 16, BUSY = 32, WARM = 64, POWER = 128 };

static void add(Processes *processes, const char *values) {
    Process *process = &processes->of[processes->count++];
    long long used;
    sscanf(values, "%u %lld", &process->pid, &used);
    process->used = (unsigned long long)used; /* -1 is the driver's "not available" */
}

static void describe(Device *device, const char *word, const char *values) {
    if (!strcmp(word, "name")) snprintf(device->name, TEXT, "%s", values);
    else if (!strcmp(word, "uuid")) snprintf(device->uuid, TEXT, "%s", values);
    else if (!strcmp(word, "compute")) sscanf(values, "%d %d", &device->major, &device->minor);
    else if (!strcmp(word, "computes")) add(&device->computes, values);
    else if (!strcmp(word, "draws")) add(&device->draws, values);
    else if (!strcmp(word, "pci")) sscanf(values, "%u", &device->bus);
    else if (!strcmp(word, "link")) {
        unsigned link = device->link_count++;
        sscanf(values, "%u %u %u", &device->links[link].up, &device->links[link].kind, &device->links[link].bus);
    }
    else if (!strcmp(word, "untold")) device->untold = 1;
    else if (!strcmp(word, "clock")) device->health |= CLOCK, sscanf(values, "%u %u", &device->clock, &device->most);
    else if (!strcmp(word, "reasons")) device->health |= REASONS, sscanf(values, "%llu", &device->reasons);
    else if (!strcmp(word, "ecc")) device->health |= ECC, sscanf(values, "%llu", &device->errors);
    else if (!strcmp(word, "remapped")) device->health |= REMAPPED, sscanf(values, "%u %u", &device->pending, &device->failed);
    else if (!strcmp(word, "persistence")) device->health |= PERSISTENCE, sscanf(values, "%u", &device->persistence);
    else if (!strcmp(word, "busy")) device->health |= BUSY, sscanf(values, "%u", &device->busy);
    else if (!strcmp(word, "warm")) device->health |= WARM, sscanf(values, "%u", &device->warm);
    else if (!strcmp(word, "power")) device->health |= POWER, sscanf(values, "%u", &device->milliwatts);
    else if (!strcmp(word, "falls")) sscanf(values, "%d %d", &device->falls, &device->code);
    else if (!strcmp(word, "memory"))
        device->has_memory = sscanf(values, "%llu %llu %llu", &device->total, &device->reserved, &device->free) == 3;
    else abort(); /* a scenario with a misspelt word tests nothing */
}

int nvmlInitWithFlags(unsigned flags) {
    char line[512], word[TEXT];
    Device *card = NULL, *device = NULL;
    int answer = SUCCESS, length;
    FILE *scenario = fopen(getenv("FAKE_NVML_SCENARIO"), "r");
    (void)flags;
    memset(cards, 0, sizeof cards);
    card_count = 0;
    cuda = 0;
    while (fgets(line, sizeof line, scenario)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%127s %n", word, &length) < 1) continue;
        if (!strcmp(word, "driver")) snprintf(driver, TEXT, "%s", line + length);
        else if (!strcmp(word, "cuda")) cuda = atoi(line + length);
        else if (!strcmp(word, "init")) answer = atoi(line + length);
        else if (!strcmp(word, "card")) device = card = &cards[card_count++];
        else if (!strcmp(word, "instance")) device = card->instances[card->instance_count++] = calloc(1, sizeof(Device));
        else describe(device, word, line + length);
    }
    fclose(scenario);
    initialized = answer == SUCCESS;
    return answer;
}

int nvmlShutdown(void) {
    int was = initialized;
    initialized = 0;
    return was ? SUCCESS : UNINITIALIZED;
}

const char *nvmlErrorString(int code) { return code == 42 ? "a code that only the library knows" : "Unknown Error"; }

static int give(const char *text, char *to, unsigned room) {
    if (!initialized) return UNINITIALIZED;
    if (strlen(text) >= room) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

static int answers(Device *device) {
    if (!initialized) return UNINITIALIZED;
    return device->calls++ >= device->falls ? device->code : SUCCESS;
}

#define ASK(device) do { int code = answers(device); if (code) return code; } while (0)

int nvmlSystemGetDriverVersion(char *to, unsigned room) { return give(driver, to, room); }

int nvmlDeviceGetCount_v2(unsigned *count) { *count = card_count; return initialized ? SUCCESS : UNINITIALIZED; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index >= card_count) return INVALID_ARGUMENT;
    ASK(&cards[index]);
    *device = &cards[index];
    return SUCCESS;
}

int nvmlDeviceGetName(Device *device, char *to, unsigned room) { ASK(device); return give(device->name, to, room); }

int nvmlDeviceGetUUID(Device *device, char *to, unsigned room) { ASK(device); return give(device->uuid, to, room); }

int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    ASK(device);
    if (!device->major) return NOT_SUPPORTED; /* MIG instances */
    *major = device->major;
    *minor = device->minor;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    ASK(device);
    *current = *pending = device->instance_count > 0;
    return strstr(device->name, "GeForce") ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) { ASK(device); *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **instance) {
    ASK(device);
    if (index >= device->instance_count) return NOT_FOUND;
    *instance = device->instances[index];
    return SUCCESS;
}

#ifndef WITHOUT_CUDA
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = cuda;
    return cuda ? SUCCESS : UNKNOWN;
}
#endif

static void place(Pci *pci, unsigned bus) {
    memset(pci, 0, sizeof *pci);
    pci->bus = bus;
    snprintf(pci->text, sizeof pci->text, "00000000:%02X:00.0", bus);
}

int nvmlDeviceGetPciInfo_v3(Device *device, Pci *pci) { ASK(device); place(pci, device->bus); return SUCCESS; }

#define ASK_LINK(device, link) do { \
    ASK(device); \
    if (!device->link_count) return NOT_SUPPORTED; \
    if (link >= device->link_count) return INVALID_ARGUMENT; \
} while (0)

#ifndef WITHOUT_NVLINK
int nvmlDeviceGetNvLinkState(Device *device, unsigned link, unsigned *up) {
    ASK_LINK(device, link);
    *up = device->links[link].up;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(Device *device, unsigned link, Pci *pci) {
    ASK_LINK(device, link);
    place(pci, device->links[link].bus);
    return SUCCESS;
}

#ifndef WITHOUT_LINK_TYPES
int nvmlDeviceGetNvLinkRemoteDeviceType(Device *device, unsigned link, unsigned *kind) {
    ASK_LINK(device, link);
    *kind = device->links[link].kind;
    return SUCCESS;
}
#endif
#endif

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory *memory) {
    ASK(device);
    if (memory->version != (sizeof(Memory) | 2u << 24)) return INVALID_ARGUMENT;
    if (!device->has_memory) return NOT_SUPPORTED;
    memory->total = device->total;
    memory->reserved = device->reserved;
    memory->free = device->free;
    memory->used = device->total - device->reserved - device->free;
    return SUCCESS;
}

static int list(Device *device, const Processes *processes, unsigned *room, Process *to) {
    ASK(device);
    if (device->untold) return NOT_SUPPORTED;
    if (*room < processes->count) {
        *room = processes->count;
        return INSUFFICIENT_SIZE;
    }
    *room = processes->count;
    if (processes->count) memcpy(to, processes->of, processes->count * sizeof(Process));
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *room, Process *to) {
    return list(device, &device->computes, room, to);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *device, unsigned *room, Process *to) {
    return list(device, &device->draws, room, to);
}
#endif

#define TELL(device, what) do { ASK(device); if (!((device)->health & (what))) return NOT_SUPPORTED; } while (0)

int nvmlDeviceGetClockInfo(Device *device, int clock, unsigned *mhz) {
    TELL(device, CLOCK);
    *mhz = device->clock;
    return clock == 2 ? SUCCESS : INVALID_ARGUMENT; /* NVML_CLOCK_MEM */
}

int nvmlDeviceGetMaxClockInfo(Device *device, int clock, unsigned *mhz) {
    TELL(device, CLOCK);
    *mhz = device->most;
    return clock == 2 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *bits) {
    TELL(device, REASONS);
    *bits = device->reasons;
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(Device *device, int kind, int counter, unsigned long long *errors) {
    TELL(device, ECC);
    *errors = device->errors;
    return kind == 1 && counter == 0 ? SUCCESS : INVALID_ARGUMENT; /* uncorrected, since the driver was loaded */
}

int nvmlDeviceGetRemappedRows(Device *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    TELL(device, REMAPPED);
    *corrected = *uncorrected = 0;
    *pending = device->pending;
    *failed = device->failed;
    return SUCCESS;
}

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version; int sensor, degrees; } Temperature;

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *rates) {
    TELL(device, BUSY);
    rates->gpu = device->busy;
    rates->memory = 1;
    return SUCCESS;
}

#ifndef WITHOUT_TEMPERATURE_V
int nvmlDeviceGetTemperatureV(Device *device, Temperature *temperature) {
    TELL(device, WARM);
    if (temperature->version != (sizeof(Temperature) | 1u << 24)) return INVALID_ARGUMENT;
    temperature->degrees = (int)device->warm;
    return temperature->sensor == 0 ? SUCCESS : INVALID_ARGUMENT; /* NVML_TEMPERATURE_GPU */
}
#else
int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *degrees) {
    TELL(device, WARM);
    *degrees = device->warm;
    return sensor == 0 ? SUCCESS : INVALID_ARGUMENT;
}
#endif

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    TELL(device, POWER);
    *milliwatts = device->milliwatts;
    return SUCCESS;
}

int nvmlDeviceGetPersistenceMode(Device *device, unsigned *mode) {
    TELL(device, PERSISTENCE);
    *mode = device->persistence;
    return SUCCESS;
}
