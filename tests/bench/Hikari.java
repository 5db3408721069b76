/*
 * Hikari.java: HikariCP over PostgreSQL's JDBC driver, with its default settings but for the size. Arguments, lines and phases are
 * those of harness.h, which see; the server is found by the same environment.
 *
 * The driver is told to send simple queries, as all others do; else it would prepare them.
 */
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.concurrent.CyclicBarrier;

public final class Hikari
{
	private static final int WARM_UP = 0, MEASURED = 1, OVER = 2;
	private static final int BUCKETS = 1920, ACCOUNTS = 100000;

	private static volatile int phase;
	private static CyclicBarrier barrier;
	private static HikariDataSource pool;
	private static String work;
	private static boolean timed;

	private static final class Worker extends Thread
	{
		final int[] waits = new int[BUCKETS];
		long ops, longest, random;

		Worker(int number)
		{
			super(null, null, "worker-" + number, 256 * 1024);
			random = number + 1;
		}

		@Override
		public void run()
		{
			try
			{
				barrier.await();
				if (timed || !work.equals("none"))
					takeAndGiveTimed();
				else
					takeAndGive();
			}
			catch (Exception e)
			{
				giveUp(e);
			}
		}

		private void takeAndGive() throws Exception
		{
			long n = 0;
			int seen = WARM_UP;

			for (int now = phase; now != OVER; now = phase)
			{
				if (now != seen)
				{
					seen = now;
					n = 0;
				}
				pool.getConnection().close();
				n++;
			}
			ops = seen == MEASURED ? n : 0;
		}

		private void takeAndGiveTimed() throws Exception
		{
			boolean idle = work.equals("none");
			long n = 0;
			int seen = WARM_UP;

			for (int now = phase; now != OVER; now = phase)
			{
				if (now != seen)
				{
					seen = now;
					n = 0;
				}
				long before = System.nanoTime();
				try (Connection conn = pool.getConnection())
				{
					noteWait(System.nanoTime() - before);
					if (!idle && phase != OVER)
						doWork(conn);
				}
				n++;
			}
			ops = seen == MEASURED ? n : 0;
		}

		private void doWork(Connection conn) throws Exception
		{
			String sql = "SELECT 1";

			if (work.equals("nap"))
			{
				Thread.sleep(1);
				return;
			}
			if (work.equals("account"))
			{
				random = random * 6364136223846793005L + 1442695040888963407L;
				sql = "SELECT abalance FROM pgbench_accounts WHERE aid = " + ((random >>> 33) % ACCOUNTS + 1);
			}
			try (Statement statement = conn.createStatement(); ResultSet result = statement.executeQuery(sql))
			{
				if (!result.next())
					throw new IllegalStateException("no row");
			}
		}

		private void noteWait(long wait)
		{
			if (phase == WARM_UP)
				return;
			int shift = 58 - Long.numberOfLeadingZeros(wait);
			waits[wait < 32 ? (int) wait : shift * 32 + (int) (wait >> shift)]++;
			longest = Math.max(longest, wait);
		}
	}

	private static void giveUp(Exception e)
	{
		System.out.println("error " + String.valueOf(e).replace('\n', ' '));
		System.out.flush();
		Runtime.getRuntime().halt(1);
	}

	private static void say(String line)
	{
		System.out.println(line);
		System.out.flush();
	}

	private static long bucketStart(int bucket)
	{
		return bucket < 32 ? bucket : (long) (32 + bucket % 32) << (bucket / 32 - 1);
	}

	private static long percentile(long[] waits, long n, double share)
	{
		long below = 0;

		for (int i = 0; i < BUCKETS; i++)
		{
			below += waits[i];
			if (below > (long) (n * share))
				return bucketStart(i);
		}
		return 0;
	}

	private static long cpuTime()
	{
		return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
	}

	private static void report(Worker[] workers, long wall, long cpu)
	{
		long[] waits = new long[BUCKETS];
		long ops = 0, slowest = Long.MAX_VALUE, fastest = 0, longest = 0, samples = 0;

		for (Worker worker : workers)
		{
			ops += worker.ops;
			slowest = Math.min(slowest, worker.ops);
			fastest = Math.max(fastest, worker.ops);
			longest = Math.max(longest, worker.longest);
			for (int i = 0; i < BUCKETS; i++)
			{
				waits[i] += worker.waits[i];
				samples += worker.waits[i];
			}
		}
		String line = "ops=" + ops + " wall=" + wall + " cpu=" + cpu + " slowest=" + slowest + " fastest=" + fastest;
		if (samples > 0)
			line += " p50=" + percentile(waits, samples, 0.5) + " p99=" + percentile(waits, samples, 0.99) +
				" p999=" + percentile(waits, samples, 0.999) + " max=" + longest;
		say(line);
	}

	private static void run(int threads, double warmUp, double seconds) throws Exception
	{
		Worker[] workers = new Worker[threads];

		phase = WARM_UP;
		barrier = new CyclicBarrier(threads + 1);
		for (int i = 0; i < threads; i++)
		{
			workers[i] = new Worker(i);
			workers[i].start();
		}
		barrier.await();
		Thread.sleep((long) (warmUp * 1000));
		long wall = System.nanoTime(), cpu = cpuTime();
		phase = MEASURED;
		Thread.sleep((long) (seconds * 1000));
		phase = OVER;
		cpu = cpuTime() - cpu;
		wall = System.nanoTime() - wall;
		for (Worker worker : workers)
			worker.join();
		report(workers, wall, cpu);
	}

	private static void open(int size) throws Exception
	{
		HikariConfig config = new HikariConfig();

		config.setJdbcUrl("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" +
			System.getenv("PGDATABASE") + "?preferQueryMode=simple");
		config.setUsername(System.getenv("PGUSER"));
		config.setPassword(System.getenv("PGPASSWORD"));
		config.setMaximumPoolSize(size);
		pool = new HikariDataSource(config);
		while (pool.getHikariPoolMXBean().getTotalConnections() < size)
			Thread.sleep(10);
	}

	public static void main(String[] arguments) throws Exception
	{
		int threads = Integer.parseInt(arguments[0]);

		try
		{
			work = arguments[2];
			timed = arguments[3].equals("1");
			open(Integer.parseInt(arguments[1]));
		}
		catch (Exception e)
		{
			giveUp(e);
		}
		say("ready");
		BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
		for (String line = in.readLine(); line != null; line = in.readLine())
		{
			String[] times = line.split(" ");
			run(threads, Double.parseDouble(times[0]), Double.parseDouble(times[1]));
		}
		pool.close();
	}
}
